//! How the demo looks in a terminal.

use std::env;
use std::future::Future;
use std::io::{IsTerminal, Write, stdout};
use std::time::Instant;

use anyhow::{Context, Result};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// The terminal, and how many steps it has shown.
#[derive(Debug)]
pub(super) struct Screen {
    colour: bool,
    steps: usize,
}

impl Screen {
    pub(super) fn new() -> Self {
        // https://no-color.org
        let colour = stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
        Self { colour, steps: 0 }
    }

    pub(super) fn title(&self, text: &str) {
        println!("\n{}\n", self.paint(BOLD, text));
    }

    pub(super) fn note(&self, text: &str) {
        println!("{}", self.paint(DIM, text));
    }

    /// One step: what is promised, then what `work` saw of it.
    pub(super) async fn step<T>(
        &mut self,
        title: &str,
        promise: &str,
        work: impl Future<Output = Result<(String, T)>>,
    ) -> Result<T> {
        self.steps += 1;
        println!("\n{:>2}  {}", self.steps, self.paint(BOLD, title));
        println!("    {} {promise}", self.paint(DIM, "promised"));
        // A step may take seconds; what is promised should be read meanwhile.
        stdout().flush()?;
        let start = Instant::now();
        match work.await {
            Ok((seen, value)) => {
                println!("    {}     {seen}", self.paint(DIM, "seen"));
                let took = format!("{:.0?}", start.elapsed());
                println!(
                    "    {}       {}",
                    self.paint(GREEN, "ok"),
                    self.paint(DIM, &took)
                );
                Ok(value)
            }
            Err(error) => {
                println!("    {}     {error:#}", self.paint(DIM, "seen"));
                println!("    {}", self.paint(RED, "FAILED"));
                Err(error).with_context(|| format!("step {}, {title}", self.steps))
            }
        }
    }

    pub(super) fn table(&self, rows: &[(String, String)]) {
        let width = rows
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        println!();
        for (name, value) in rows {
            println!("    {name:<width$}  {}", self.paint(BOLD, value));
        }
        println!();
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour {
            format!("{colour}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }
}
