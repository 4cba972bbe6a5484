//! Connections that come out of the machine.

use std::net::{Ipv4Addr, SocketAddr};

use dsimg_machine::{Session, SessionError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::sshd::Sshd;

/// Answers each connection with what it says, in capitals.
async fn shouter() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut said = Vec::new();
                stream.read_to_end(&mut said).await.unwrap();
                stream.write_all(&said.to_ascii_uppercase()).await.unwrap();
            });
        }
    });
    address
}

async fn say(port: u16, what: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    stream.write_all(what).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_port_of_the_machine_leads_to_this_host() {
    let sshd = Sshd::start();
    let session = sshd.connect().await;
    let port = session.lead_back(shouter().await).await.unwrap();
    let much = vec![b'x'; 4 << 20];
    let (small, large) = tokio::join!(say(port, b"hello"), say(port, &much));
    assert_eq!(small, b"HELLO");
    assert!(large == much.to_ascii_uppercase());
    drop(session);
    // The machine's sshd closes the port when the connection is gone.
    for _ in 0..100 {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the port is still open");
}

#[tokio::test]
async fn an_sshd_that_forbids_it_is_named() {
    let sshd = Sshd::with_settings("AllowTcpForwarding no\n");
    let session = sshd.connect().await;
    let error = session.lead_back(([127, 0, 0, 1], 9).into()).await.unwrap_err();
    assert!(matches!(&error, SessionError::Lost { why } if why.contains("AllowTcpForwarding")), "{error:?}");
}
