//! From which address this host is seen: the only one that the temporary security group lets in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use dsimg_download::{Access, SmallRequest, fetch_bytes};
use dsimg_machine::{MachineError, RunContext};
use dsimg_template::template::Location;

use crate::pace::in_time;

/// Amazon's own service for it; it answers with the address and a line end.
const ASKED: &str = "https://checkip.amazonaws.com";
const LIMIT: Duration = Duration::from_secs(30);
/// Names the address where that service can't be reached.
pub(crate) const VARIABLE: &str = "DSIMG_CALLER_ADDRESS";

/// As the internet sees this host.
///
/// # Errors
/// Nobody tells.
pub(crate) async fn public_address(access: Access, run: &RunContext) -> Result<IpAddr, MachineError> {
    if let Ok(named) = std::env::var(VARIABLE) {
        return named.trim().parse().map_err(|_| {
            let what = format!("{VARIABLE} is `{named}`, which is no address");
            MachineError::host(what, "write an address such as 203.0.113.7, or leave it out")
        });
    }
    let request = SmallRequest { location: Location::Url(ASKED.to_owned()), accept: None, access };
    let why = match in_time(LIMIT, fetch_bytes(&request, 100, run)).await {
        None => format!("no answer within {} s", LIMIT.as_secs()),
        Some(Err(MachineError::Cancelled)) => return Err(MachineError::Cancelled),
        Some(Err(error)) => error.to_string(),
        Some(Ok(answer)) => match String::from_utf8_lossy(&answer.bytes).trim().parse() {
            Ok(address) => return Ok(address),
            Err(_) => "the answer is no address".to_owned(),
        },
    };
    let hint = format!("set `allow_from` in the template, or {VARIABLE} to the address that AWS sees this host under");
    Err(MachineError::host(format!("cannot find out this host's public address from {ASKED}: {why}"), hint))
}

/// The address from which this host would send to a subnet; nothing is sent.
pub(crate) fn address_towards(cidr: &str) -> Option<IpAddr> {
    let (network, _) = parse(cidr)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SocketAddr::from((Ipv4Addr::from(u32::from(network) + 4), 22))).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Whether it lies in one of the ranges, such as `10.0.0.0/16`.
pub(crate) fn is_in(address: IpAddr, ranges: &[String]) -> bool {
    let IpAddr::V4(address) = address else { return false };
    ranges.iter().filter_map(|range| parse(range)).any(|(network, bits)| {
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        u32::from(address) & mask == u32::from(network) & mask
    })
}

fn parse(cidr: &str) -> Option<(Ipv4Addr, u32)> {
    let (network, bits) = cidr.split_once('/')?;
    Some((network.parse().ok()?, bits.parse().ok().filter(|bits| *bits <= 32)?))
}

/// The range that holds this address alone.
pub(crate) fn alone(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let ranges = ["10.1.0.0/16".to_owned(), "192.0.2.7/32".to_owned(), "nonsense".to_owned()];
        let is_in = |text: &str| is_in(text.parse().unwrap(), &ranges);
        assert!(is_in("10.1.200.3") && is_in("192.0.2.7"));
        assert!(!is_in("10.2.0.1") && !is_in("192.0.2.8") && !is_in("2001:db8::1"));
        assert_eq!(alone("192.0.2.7".parse().unwrap()), "192.0.2.7/32");
        assert_eq!(alone("2001:db8::1".parse().unwrap()), "2001:db8::1/128");
    }

    #[test]
    fn this_host_has_an_address_towards_itself() {
        assert_eq!(address_towards("127.0.0.0/8"), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
