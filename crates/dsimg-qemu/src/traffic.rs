//! Where the guest went by itself: QEMU writes the beginning of each packet to a file, and this reads who was called.
//!
//! Connections to the host itself are left out, as are names, times and leases, which the system asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use etherparse::TransportSlice;
use simple_dns::rdata::RData;

/// Bytes of each packet that are written. A name server's answer fits.
pub(crate) const KEPT_OF_A_PACKET: u32 = 512;

/// This host, as a guest of QEMU's user network sees it.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const GUESTS: [u8; 3] = [10, 0, 2];

const FILE_HEADER: u64 = 24;
const PACKET_HEADER: usize = 16;
/// The file header's first four bytes, as QEMU writes them on this host.
const MAGIC: u32 = 0xa1b2_c3d4;
const QUIC: u16 = 443;
const NAMES: u16 = 53;

/// The file, read as far as it was written.
#[derive(Debug)]
pub(crate) struct Traffic {
    path: PathBuf,
    read: u64,
    /// Of all that was read.
    names: BTreeMap<IpAddr, String>,
}

impl Traffic {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read: FILE_HEADER, names: BTreeMap::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Who was called since the last time: `pypi.org:443`, or the address where no name is known.
    ///
    /// # Errors
    /// The file can't be read, or is none of QEMU's.
    pub(crate) fn calls(&mut self) -> io::Result<BTreeSet<String>> {
        let mut file = File::open(&self.path)?;
        let mut head = [0; 4];
        if file.metadata()?.len() < FILE_HEADER {
            return Ok(BTreeSet::new());
        }
        file.read_exact(&mut head)?;
        if u32::from_ne_bytes(head) != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no record of packets"));
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut reader = io::BufReader::with_capacity(1 << 20, file);
        let mut called = BTreeSet::new();
        let mut packet = Vec::new();
        while let Some(length) = next_packet(&mut reader, &mut packet)? {
            self.read += length;
            self.take(&packet, &mut called);
        }
        Ok(called.into_iter().map(|(address, port)| self.shown(address, port)).collect())
    }

    /// What is cut or of another kind says nothing.
    fn take(&mut self, packet: &[u8], called: &mut BTreeSet<(IpAddr, u16)>) {
        // Only the packet's beginning is there: lengths are not held against it.
        let Ok(packet) = etherparse::LaxSlicedPacket::from_ethernet(packet) else { return };
        let (from, to) = match &packet.net {
            Some(etherparse::LaxNetSlice::Ipv4(ip)) => {
                (IpAddr::from(ip.header().source_addr()), IpAddr::from(ip.header().destination_addr()))
            }
            Some(etherparse::LaxNetSlice::Ipv6(ip)) => {
                (IpAddr::from(ip.header().source_addr()), IpAddr::from(ip.header().destination_addr()))
            }
            _ => return,
        };
        match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) if tcp.syn() && !tcp.ack() && is_outside(to) => {
                called.insert((to, tcp.destination_port()));
            }
            Some(TransportSlice::Udp(udp)) if udp.destination_port() == QUIC && is_outside(to) => {
                called.insert((to, QUIC));
            }
            Some(TransportSlice::Udp(udp)) if udp.source_port() == NAMES && !is_outside(from) => {
                self.learn(udp.payload());
            }
            _ => {}
        }
    }

    /// A name server's answer: the name that was asked for stands for all addresses in it.
    fn learn(&mut self, answer: &[u8]) {
        let Ok(answer) = simple_dns::Packet::parse(answer) else { return };
        let Some(question) = answer.questions.first() else { return };
        let name = question.qname.to_string();
        for record in &answer.answers {
            let address = match &record.rdata {
                RData::A(a) => IpAddr::from(Ipv4Addr::from(a.address)),
                RData::AAAA(a) => IpAddr::from(std::net::Ipv6Addr::from(a.address)),
                _ => continue,
            };
            self.names.insert(address, name.clone());
        }
    }

    fn shown(&self, address: IpAddr, port: u16) -> String {
        match (self.names.get(&address), address) {
            (Some(name), _) => format!("{name}:{port}"),
            (None, IpAddr::V4(address)) => format!("{address}:{port}"),
            (None, IpAddr::V6(address)) => format!("[{address}]:{port}"),
        }
    }
}

/// Not this host, nor the user network's own servers, nor the guest itself.
fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] != GUESTS && !address.is_broadcast() && !address.is_multicast(),
        // The user network's own prefix.
        IpAddr::V6(address) => {
            address.segments()[0] != 0xfec0 && !address.is_multicast() && !address.is_unicast_link_local()
        }
    }
}

/// The next packet and how much of the file it took; `None` at the end, where one may be half written.
fn next_packet(reader: &mut impl Read, packet: &mut Vec<u8>) -> io::Result<Option<u64>> {
    let mut head = [0; PACKET_HEADER];
    let word = |head: &[u8; PACKET_HEADER], at: usize| {
        u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
    };
    match reader.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = word(&head, 8);
    if length > KEPT_OF_A_PACKET {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet is longer than what is kept of one"));
    }
    packet.resize(length as usize, 0);
    match reader.read_exact(packet) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        other => other.map(|()| Some(PACKET_HEADER as u64 + u64::from(length))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use etherparse::PacketBuilder;

    use super::*;

    const GUEST: [u8; 4] = [10, 0, 2, 15];

    fn builder(from: [u8; 4], to: [u8; 4]) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(from, to, 64)
    }

    fn syn(to: [u8; 4], port: u16) -> Vec<u8> {
        let mut packet = Vec::new();
        builder(GUEST, to).tcp(40_000, port, 1, 1000).syn().write(&mut packet, &[]).unwrap();
        packet
    }

    fn data(to: [u8; 4], port: u16) -> Vec<u8> {
        let mut packet = Vec::new();
        builder(GUEST, to).tcp(40_000, port, 1, 1000).ack(1).write(&mut packet, &[7; 1400]).unwrap();
        packet
    }

    fn answer(name: &str, address: [u8; 4]) -> Vec<u8> {
        use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, ResourceRecord, TYPE};
        let name = Name::new(name).unwrap();
        let mut dns = Packet::new_reply(1);
        dns.questions.push(Question::new(name.clone(), QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
        let address = RData::A(simple_dns::rdata::A::from(Ipv4Addr::from(address)));
        dns.answers.push(ResourceRecord::new(name, CLASS::IN, 60, address));
        let mut packet = Vec::new();
        let payload = dns.build_bytes_vec().unwrap();
        builder([10, 0, 2, 3], GUEST).udp(53, 50_000).write(&mut packet, &payload).unwrap();
        packet
    }

    fn append(file: &mut impl Write, packet: &[u8]) {
        let kept = &packet[..packet.len().min(KEPT_OF_A_PACKET as usize)];
        for word in [0, 0, kept.len() as u32, packet.len() as u32] {
            file.write_all(&word.to_ne_bytes()).unwrap();
        }
        file.write_all(kept).unwrap();
    }

    fn begin(folder: &Path) -> (File, Traffic) {
        let path = folder.join("traffic.pcap");
        let mut file = File::create(&path).unwrap();
        file.write_all(&MAGIC.to_ne_bytes()).unwrap();
        file.write_all(&[0; FILE_HEADER as usize - 4]).unwrap();
        (file, Traffic::new(path))
    }

    #[test]
    fn those_who_were_called_are_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, mut traffic) = begin(folder.path());
        for packet in [
            answer("pypi.org", [151, 101, 0, 223]),
            syn([151, 101, 0, 223], 443),
            data([151, 101, 0, 223], 443),
            syn([151, 101, 0, 223], 443),
            syn([93, 184, 216, 34], 80),
            syn(GATEWAY.octets(), 4711),
        ] {
            append(&mut file, &packet);
        }
        let expected = ["93.184.216.34:80", "pypi.org:443"].map(str::to_owned);
        assert_eq!(traffic.calls().unwrap(), BTreeSet::from(expected));
        assert_eq!(traffic.calls().unwrap(), BTreeSet::new());
        append(&mut file, &syn([151, 101, 0, 223], 80));
        assert_eq!(traffic.calls().unwrap(), BTreeSet::from(["pypi.org:80".to_owned()]));
    }

    #[test]
    fn a_packet_that_is_half_written_is_read_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, mut traffic) = begin(folder.path());
        let mut whole = Vec::new();
        append(&mut whole, &syn([1, 2, 3, 4], 22));
        file.write_all(&whole[..30]).unwrap();
        assert_eq!(traffic.calls().unwrap(), BTreeSet::new());
        file.write_all(&whole[30..]).unwrap();
        assert_eq!(traffic.calls().unwrap(), BTreeSet::from(["1.2.3.4:22".to_owned()]));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, [7; 100]).unwrap();
        Traffic::new(path).calls().unwrap_err();
    }
}
