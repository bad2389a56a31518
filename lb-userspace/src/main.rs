//! The command `limpet`; all that it does is the library's, which fuzz targets use too.

use std::process::ExitCode;

fn main() -> ExitCode {
    limpet::main()
}
