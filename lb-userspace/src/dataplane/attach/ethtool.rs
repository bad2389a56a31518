//! What ethtool knows of an interface: its driver, and what it does for its packets
//! (SIOCETHTOOL, linux/ethtool.h).

use std::ffi::CStr;
use std::io;
use std::mem::zeroed;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// `SIOCETHTOOL` of linux/sockios.h.
const ETHTOOL: libc::Ioctl = 0x8946;
/// `ETHTOOL_GDRVINFO`: `struct ethtool_drvinfo`, of which the driver's name follows the
/// command.
const GET_DRIVER_INFO: u32 = 0x03;
const DRIVER_INFO_LENGTH: usize = 196;
/// `ETHTOOL_GSSET_INFO`: `struct ethtool_sset_info`.
const GET_SET_INFO: u32 = 0x37;
/// `ETHTOOL_GSTRINGS`: `struct ethtool_gstrings`.
const GET_STRINGS: u32 = 0x1b;
/// `ETHTOOL_GFEATURES`: `struct ethtool_gfeatures`.
const GET_FEATURES: u32 = 0x3a;
/// `ETH_SS_FEATURES`, the set of the features' names.
const FEATURES: u32 = 4;
/// `ETH_GSTRING_LEN`.
const STRING_LENGTH: usize = 32;
const WORD: usize = size_of::<u32>();

/// The driver's name; an error where the interface has none or is gone.
pub(in crate::dataplane) fn driver(name: &str) -> io::Result<String> {
    let mut info = vec![0; DRIVER_INFO_LENGTH / WORD];
    ask(name, GET_DRIVER_INFO, &mut info)?;
    text(&bytes(&info)[WORD..][..STRING_LENGTH])
}

/// The names of the features that are on.
pub(in crate::dataplane) fn features(name: &str) -> io::Result<Vec<String>> {
    // The mask of the sets asked for is 64 bits long, behind the command and a hole.
    let mut info = [0, 0, 1 << FEATURES, 0, 0];
    ask(name, GET_SET_INFO, &mut info)?;
    let count = info[4] as usize;
    let mut strings = vec![0; 3 + count * STRING_LENGTH / WORD];
    strings[1] = FEATURES;
    strings[2] = info[4];
    ask(name, GET_STRINGS, &mut strings)?;
    let blocks = count.div_ceil(u32::BITS as usize);
    let mut states = vec![0; 2 + blocks * 4];
    states[1] = u32::try_from(blocks).map_err(io::Error::other)?;
    ask(name, GET_FEATURES, &mut states)?;
    let names = bytes(&strings[3..]);
    (0..count)
        .filter(|number| is_active(&states, *number))
        .map(|number| text(&names[number * STRING_LENGTH..][..STRING_LENGTH]))
        .collect()
}

/// Blocks of 32 features: available, requested, active, never changed.
fn is_active(states: &[u32], number: usize) -> bool {
    let (block, bit) = (number / 32, number % 32);
    states[2 + block * 4 + 2] & 1 << bit != 0
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn text(bytes: &[u8]) -> io::Result<String> {
    let text = CStr::from_bytes_until_nul(bytes).map_err(io::Error::other)?;
    Ok(text.to_string_lossy().into_owned())
}

/// Asks a command that answers in place. `structure` must be as long as the kernel takes
/// it to be for this command and what is in it.
fn ask(name: &str, command: u32, structure: &mut [u32]) -> io::Result<()> {
    // Any socket tells the kernel which namespace is meant.
    let socket = UdpSocket::bind(("0.0.0.0", 0)).or_else(|_| UdpSocket::bind(("::", 0)))?;
    // SAFETY: the union's members are integers and pointers, for which zero is valid.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    structure[0] = command;
    request.ifr_ifru.ifru_data = structure.as_mut_ptr().cast();
    // SAFETY: the kernel reads the request, and reads and writes the structure it points
    // to, no further than it is long: the driver's is of one size, the sets' one has one
    // set's count, the strings' one has room for the count that the kernel itself has
    // told (the same for every interface while it runs), the features' one says its size
    // itself. Both live until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
