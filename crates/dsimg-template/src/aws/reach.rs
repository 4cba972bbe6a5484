//! How dsimg gets to an instance: address, bastion, security groups, login.

use super::{check_one_of, forms};
use crate::base::check_user;
use crate::reader::Reader;
use crate::template::aws::{Address, Bastion, ReachTable};
use crate::values::Values;

const SSH_PORT: u16 = 22;

pub(super) fn read(reader: &mut Reader<'_>, values: &Values) -> ReachTable {
    let why = "`allow_from` is for the group that is made for the build: remove it, or `security_groups`";
    check_one_of(reader, values, ["security_groups", "allow_from"], why);
    if let Some(user) = values.text("ssh_user").cloned() {
        check_user(reader, &user);
    }
    let bastion = values.table("bastion").cloned().map(|values| bastion(reader, &values));
    ReachTable {
        address: match values.text("address").map(|piece| piece.text.as_str()) {
            Some("public") => Address::Public,
            Some("private") => Address::Private,
            _ => Address::Auto,
        },
        bastion,
        security_groups: forms::SECURITY_GROUP.read(reader, values, "security_groups"),
        allow_from: forms::CIDR.read(reader, values, "allow_from"),
        ssh_user: values.string("ssh_user"),
        ssh_port: port(values, "ssh_port"),
    }
}

fn bastion(reader: &mut Reader<'_>, values: &Values) -> Bastion {
    if let Some(key) = values.text("key").cloned() {
        reader.check_file(&key);
    }
    // What is missing is reported.
    Bastion {
        host: forms::HOST.read_one(reader, values, "host").unwrap_or_default(),
        port: port(values, "port"),
        user: forms::LOGIN.read_one(reader, values, "user").unwrap_or_default(),
        key: values.string("key").unwrap_or_default().into(),
        host_key: forms::HOST_KEY
            .read_one(reader, values, "host_key")
            .and_then(|text| forms::host_key(&text))
            .unwrap_or_default(),
    }
}

fn port(values: &Values, key: &str) -> u16 {
    values.integer(key).and_then(|port| u16::try_from(port).ok()).unwrap_or(SSH_PORT)
}
