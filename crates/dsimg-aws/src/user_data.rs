//! What cloud-init in the instance is told: keys, the login, and when to give up.
//!
//! Facts: user data is at most 16 KiB before its base64; cloud-init takes it compressed by gzip, and takes several
//! parts as one MIME message. Later parts replace what earlier ones say unless they carry `Merge-Type`.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use dsimg_machine::MachineError;

const LIMIT: usize = 16 << 10;
const BOUNDARY: &str = "==dsimg-part==";
/// Of the user's part: what dsimg's says stays, and lists are joined.
const MERGE: &str = "dict(no_replace,recurse_array,recurse_dict)+list(append)";

/// What the guest is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) login: Login<'a>,
    /// `ssh-ed25519 AAAA…`: who may log in.
    pub(crate) authorized_key: &'a str,
    /// OpenSSH's PEM form.
    pub(crate) host_key: &'a str,
    pub(crate) host_key_public: &'a str,
    /// Seconds since 1970: the instance powers itself off then, which ends it.
    pub(crate) deadline: i64,
    /// From now to the deadline, for a guest whose clock is wrong.
    pub(crate) seconds: u64,
    /// The user's own file.
    pub(crate) extra: Option<&'a str>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Login<'a> {
    Root,
    /// Made for the build.
    New(&'a str),
    /// cloud-init's own, which the AMI names.
    Default,
}

impl Told<'_> {
    /// As RunInstances takes it.
    ///
    /// # Errors
    /// It is longer than AWS takes, or the user's file is none that cloud-init knows.
    pub(crate) fn encode(&self) -> Result<String, MachineError> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        let packed = packed.write_all(self.message()?.as_bytes()).and_then(|()| packed.finish());
        let packed = packed.expect("writing to memory does not fail");
        if packed.len() > LIMIT {
            let what = format!("the user data is {} bytes long after compression, and AWS takes {LIMIT}", packed.len());
            return Err(MachineError::refused(
                what,
                "make the `user_data` file shorter; a `[[provision]]` entry has no such limit",
            ));
        }
        Ok(STANDARD.encode(packed))
    }

    fn message(&self) -> Result<String, MachineError> {
        let own = format!("#cloud-config\n{:#}\n", self.cloud_config());
        let mut text = format!("Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\nMIME-Version: 1.0\n\n");
        text.push_str(&part("text/cloud-config", &own));
        if let Some(extra) = self.extra {
            text.push_str(&user_part(extra)?);
        }
        text.push_str(&format!("--{BOUNDARY}--\n"));
        Ok(text)
    }

    /// JSON, which is YAML too and leaves no question of quoting. Its modules are those of the AMI: it is not dsimg's.
    fn cloud_config(&self) -> Value {
        let mut config = json!({
            "ssh_keys": {"ed25519_private": self.host_key, "ed25519_public": self.host_key_public},
            "ssh_deletekeys": true,
            "ssh_genkeytypes": ["ed25519"],
            "package_update": false,
            "package_upgrade": false,
            // At every boot: a reboot forgets the timer.
            "bootcmd": [["sh", "-c", include_str!("dead_man.sh"), "dsimg", self.deadline.to_string(), self.seconds.to_string()]],
        });
        let login = match self.login {
            Login::Root => {
                json!({"disable_root": false, "users": ["default"], "ssh_authorized_keys": [self.authorized_key]})
            }
            Login::Default => json!({"users": ["default"], "ssh_authorized_keys": [self.authorized_key]}),
            // The AMI's own login is made as at any boot: scripts may count on it.
            Login::New(name) => json!({"users": ["default", {
                "name": name,
                "gecos": "dsimg build",
                "shell": "/bin/bash",
                "lock_passwd": true,
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": [self.authorized_key],
            }]}),
        };
        if let (Value::Object(config), Value::Object(login)) = (&mut config, login) {
            config.extend(login);
        }
        config
    }
}

fn part(kind: &str, content: &str) -> String {
    format!(
        "--{BOUNDARY}\nContent-Type: {kind}; charset=\"utf-8\"\nMIME-Version: 1.0\nMerge-Type: {MERGE}\n\n{content}\n"
    )
}

fn user_part(content: &str) -> Result<String, MachineError> {
    // Headers of its own.
    if content.starts_with("Content-Type:") || content.starts_with("MIME-Version:") {
        return Ok(format!("--{BOUNDARY}\n{content}\n"));
    }
    let kinds = [
        ("#cloud-config-archive", "text/cloud-config-archive"),
        ("#cloud-config", "text/cloud-config"),
        ("#cloud-boothook", "text/cloud-boothook"),
        ("#include-once", "text/x-include-once-url"),
        ("#include", "text/x-include-url"),
        ("#part-handler", "text/part-handler"),
        ("#upstart-job", "text/upstart-job"),
        ("## template: jinja", "text/jinja2"),
        ("#!", "text/x-shellscript"),
    ];
    let kind = kinds.iter().find(|(start, _)| content.starts_with(start));
    let (_, kind) = kind.ok_or_else(|| {
        let first = content.lines().next().unwrap_or_default();
        MachineError::refused(
            format!("the `user_data` file begins with `{first}`, which cloud-init does not know"),
            "it begins with `#cloud-config`, with `#!` for a script, or is a MIME message",
        )
    })?;
    Ok(part(kind, content))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn told(extra: Option<&str>) -> Told<'_> {
        Told {
            login: Login::New("dsimg"),
            authorized_key: "ssh-ed25519 AAAA1",
            host_key: "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n-----END OPENSSH PRIVATE KEY-----\n",
            host_key_public: "ssh-ed25519 AAAA2",
            deadline: 1_795_269_972,
            seconds: 21_600,
            extra,
        }
    }

    #[test]
    fn both_parts_are_there() {
        insta::assert_snapshot!(told(Some("#cloud-config\npackages: [htop]\n")).message().unwrap());
    }

    #[test]
    fn it_is_compressed_and_encoded() {
        let bytes = STANDARD.decode(told(None).encode().unwrap()).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, told(None).message().unwrap());
        assert!(bytes.len() < 1500, "{}", bytes.len());
    }

    #[test]
    fn what_is_too_long_or_of_no_kind_is_refused() {
        // Hardly to be compressed.
        let mut state = 1_u64;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
        };
        let noise: String = (0..40_000).map(|_| letter()).collect();
        let error = told(Some(&format!("#!/bin/sh\n: {noise}"))).encode().unwrap_err().to_string();
        assert!(error.contains("AWS takes 16384"), "{error}");
        let error = told(Some("hello")).encode().unwrap_err().to_string();
        assert_eq!(error, "the `user_data` file begins with `hello`, which cloud-init does not know");
    }

    #[test]
    fn root_and_the_amis_own_login_need_no_new_account() {
        let config = Told { login: Login::Root, ..told(None) }.cloud_config();
        assert_eq!((&config["disable_root"], &config["users"]), (&json!(false), &json!(["default"])));
        let config = Told { login: Login::Default, ..told(None) }.cloud_config();
        assert_eq!(config["ssh_authorized_keys"], json!(["ssh-ed25519 AAAA1"]));
    }
}
