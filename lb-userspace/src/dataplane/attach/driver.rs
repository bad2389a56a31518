//! Which driver an interface has (SIOCETHTOOL, ETHTOOL_GDRVINFO).

use std::ffi::CStr;
use std::io;
use std::mem::zeroed;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// `ETHTOOL_GDRVINFO` of linux/ethtool.h.
const GET_DRIVER_INFO: u32 = 3;
/// `SIOCETHTOOL` of linux/sockios.h.
const ETHTOOL: libc::Ioctl = 0x8946;

/// `struct ethtool_drvinfo` of linux/ethtool.h.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rom: [u8; 32],
    reserved: [u8; 12],
    counts: [u32; 5],
}

const _: () = assert!(size_of::<DriverInfo>() == 196);

/// The driver's name; an error where the interface has none or is gone.
pub(in crate::dataplane) fn driver(name: &str) -> io::Result<String> {
    // Any socket tells the kernel which namespace is meant.
    let socket = UdpSocket::bind(("0.0.0.0", 0)).or_else(|_| UdpSocket::bind(("::", 0)))?;
    // SAFETY: integers and bytes, for which zero is valid.
    let mut info: DriverInfo = unsafe { zeroed() };
    info.command = GET_DRIVER_INFO;
    // SAFETY: as above; the union's other members are integers and pointers.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: the kernel reads the request, and reads and writes the DriverInfo it
    // points to, of the size that this command implies (asserted above); both live
    // until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let driver = CStr::from_bytes_until_nul(&info.driver).map_err(io::Error::other)?;
    Ok(driver.to_string_lossy().into_owned())
}
