//! The way to the instance: its address, and the host between where there is one.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use dsimg_machine::MachineError;
use dsimg_ssh::{Bastion, HostKey, SshTarget, TemporaryKey};
use dsimg_template::template::aws::{self, Address, ReachTable};

use crate::access::{Access, write_private};
use crate::launch::Running;

/// # Errors
/// The instance has no such address.
pub(crate) fn address(running: &Running, reach: &ReachTable) -> Result<IpAddr, MachineError> {
    let wants_private = reach.address == Address::Private || reach.bastion.is_some();
    let address = match (reach.address, wants_private) {
        (_, true) => running.private,
        (Address::Public, false) => running.public,
        (_, false) => running.public.or(running.private),
    };
    address.ok_or_else(|| {
        let kind = if wants_private { "private" } else { "public" };
        MachineError::refused(
            format!("{} has no {kind} address", running.id),
            "look at `address`, and at the subnet's setting for public addresses",
        )
    })
}

/// # Errors
/// The bastion's keys can't be read.
pub(crate) fn bastion(table: &aws::Bastion, folder: &Path) -> Result<Bastion, MachineError> {
    let path = folder.join(&table.key);
    let text = std::fs::read_to_string(&path).map_err(|error| MachineError::file("cannot read", &path, error))?;
    let key = TemporaryKey::parse(&text).ok_or_else(|| {
        let what = format!("{} is no ed25519 key in OpenSSH's form without a passphrase", path.display());
        MachineError::refused(what, "make one with `ssh-keygen -t ed25519 -N ''`, and let the bastion take it")
    })?;
    let host_key = HostKey::parse(&table.host_key).ok_or_else(|| {
        let what = format!("the bastion's `host_key` is no ed25519 key: `{}`", table.host_key);
        MachineError::refused(
            what,
            format!("`ssh-keyscan -t ed25519 {}` prints it; compare it with the host's own", table.host),
        )
    })?;
    Ok(Bastion { host: table.host.clone(), port: table.port, user: table.user.clone(), key, host_key })
}

pub(crate) fn target(
    address: IpAddr,
    port: u16,
    access: &Access,
    host_key: HostKey,
    via: Option<Bastion>,
) -> SshTarget {
    SshTarget {
        address: SocketAddr::from((address, port)),
        user: access.user.clone(),
        key: access.key.clone(),
        host_key,
        elevate: access.user != "root",
        via,
    }
}

/// A command line by which a person logs in; the files that it needs are written into the folder.
///
/// # Errors
/// They can't be written.
pub(crate) fn ssh_command(target: &SshTarget, folder: &Path) -> Result<String, MachineError> {
    let file = |name: &str, content: String| {
        let path = folder.join(name);
        write_private(&path, &content).map_err(|error| MachineError::file("cannot write", &path, error))?;
        Ok::<_, MachineError>(quoted(&path))
    };
    let (host, port) = (target.address.ip().to_string(), target.address.port());
    let key = file("ssh-key", target.key.private_openssh())?;
    let mut known = format!("[{host}]:{port} {}\n{host} {}\n", target.host_key, target.host_key);
    let mut proxy = String::new();
    if let Some(via) = &target.via {
        known.push_str(&format!("[{}]:{} {}\n{} {}\n", via.host, via.port, via.host_key, via.host, via.host_key));
        let known_file = quoted(&folder.join("ssh-known-hosts"));
        let via_key = file("ssh-bastion-key", via.key.private_openssh())?;
        proxy = format!(
            " -o ProxyCommand=\"ssh -i {via_key} -o IdentitiesOnly=yes -o UserKnownHostsFile={known_file} -p {} -W %h:%p {}@{}\"",
            via.port, via.user, via.host
        );
    }
    let known = file("ssh-known-hosts", known)?;
    Ok(format!(
        "ssh -i {key} -o IdentitiesOnly=yes -o UserKnownHostsFile={known}{proxy} -p {port} {}@{host}",
        target.user
    ))
}

/// For a shell, quoted where it must be.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(public: Option<&str>) -> Running {
        Running {
            id: "i-1".to_owned(),
            is_spot: false,
            public: public.map(|text| text.parse().unwrap()),
            private: Some("10.0.0.5".parse().unwrap()),
        }
    }

    fn reach(address: Address) -> ReachTable {
        ReachTable { address, bastion: None, security_groups: vec![], allow_from: vec![], ssh_user: None, ssh_port: 22 }
    }

    #[test]
    fn the_address_is_the_one_that_is_asked_for() {
        let of = |kind, public| address(&running(public), &reach(kind)).map(|address| address.to_string()).ok();
        assert_eq!(of(Address::Auto, Some("198.51.100.1")).unwrap(), "198.51.100.1");
        assert_eq!(of(Address::Auto, None).unwrap(), "10.0.0.5");
        assert_eq!(of(Address::Private, Some("198.51.100.1")).unwrap(), "10.0.0.5");
        assert_eq!(of(Address::Public, None), None);
        let bastion = aws::Bastion {
            host: "b".to_owned(),
            port: 22,
            user: "u".to_owned(),
            key: "k".into(),
            host_key: String::new(),
        };
        let behind = ReachTable { bastion: Some(bastion), ..reach(Address::Auto) };
        assert_eq!(address(&running(Some("198.51.100.1")), &behind).unwrap().to_string(), "10.0.0.5");
    }

    #[test]
    fn people_get_a_command_that_checks_both_hosts() {
        let folder = tempfile::tempdir().unwrap();
        let access = Access::generate("dsimg");
        let (key, host_key) = (TemporaryKey::generate(), TemporaryKey::generate().public());
        let via = Bastion { host: "bastion".to_owned(), port: 2222, user: "jump".to_owned(), key, host_key };
        let own = access.host_key.public();
        let command =
            ssh_command(&target("10.0.0.5".parse().unwrap(), 22, &access, own, Some(via)), folder.path()).unwrap();
        assert!(command.contains("-p 2222 -W %h:%p jump@bastion\""), "{command}");
        assert!(command.ends_with("-p 22 dsimg@10.0.0.5"), "{command}");
        assert!(
            std::fs::read_to_string(folder.path().join("ssh-known-hosts"))
                .unwrap()
                .contains("[bastion]:2222 ssh-ed25519")
        );
    }
}
