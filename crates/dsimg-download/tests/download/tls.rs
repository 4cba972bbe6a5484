//! Proxies that re-sign TLS.

use std::sync::{Arc, Mutex};

use dsimg_download::Access;
use dsimg_machine::MachineError;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::rig::{Rig, told};
use crate::server::{Reply, read_request, serve};

/// Answers `CONNECT` for any host with a certificate that it signed itself, like the box of a company does.
struct Resigner {
    address: std::net::SocketAddr,
    /// Its CA as PEM.
    authority: String,
}

async fn start(name: &'static str, answer: fn() -> Reply) -> Resigner {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let request = read_request(&mut stream).await.unwrap();
                assert_eq!(request.method, "CONNECT");
                stream.write_all(b"HTTP/1.1 200 Go on\r\n\r\n").await.unwrap();
                if let Ok(stream) = acceptor.accept(stream.into_inner()).await {
                    serve(stream, &Mutex::new(Vec::new()), &move |_: &_| answer()).await;
                }
            });
        }
    });
    Resigner { address, authority: issuer.pem() }
}

fn through(proxy: &Resigner) -> Access {
    Access { https_proxy: Some(format!("http://{}", proxy.address)), ..Access::default() }
}

#[tokio::test]
async fn a_stranger_s_certificate_is_refused_with_what_to_set() {
    let (rig, proxy) = (Rig::new(), start("files.example.org", || Reply::new(200, b"hello")).await);
    let error = rig.fetch_with("https://files.example.org/x", b"hello", through(&proxy)).await.unwrap_err();
    assert!(matches!(error, MachineError::HostNotReady { .. }), "{error}");
    let text = told(&error);
    let what = "`https://files.example.org/x`: its certificate is signed by nobody this host trusts";
    assert!(text.starts_with(what), "{text}");
    for word in ["update-ca-certificates", "SSL_CERT_FILE", "[network] ca", "ca = \"host\""] {
        assert!(text.contains(word), "`{word}` is missing: {text}");
    }
    assert_eq!(rig.said(), "", "it was tried again");
}

#[tokio::test]
async fn a_named_authority_is_trusted_and_nothing_else() {
    let (rig, proxy) = (Rig::new(), start("files.example.org", || Reply::new(200, b"hello")).await);
    let pem = rig.cache.path().join("ca.pem");
    std::fs::write(&pem, &proxy.authority).unwrap();
    let access = Access { extra_authorities: Some(pem.clone()), ..through(&proxy) };
    rig.fetch_with("https://files.example.org/x", b"hello", access.clone()).await.unwrap();
    let error = rig.fetch_with("https://elsewhere.example.org/x", b"other", access.clone()).await.unwrap_err();
    assert!(error.to_string().contains("its certificate is for another host"), "{error}");
    std::fs::write(&pem, "not a certificate").unwrap();
    let error = rig.fetch_with("https://files.example.org/x", b"other", access).await.unwrap_err();
    assert!(error.to_string().contains("holds no certificates in PEM form"), "{error}");
}

#[tokio::test]
async fn a_way_back_from_tls_to_plain_text_is_not_taken() {
    let redirect = || Reply::new(302, b"").header("Location", "http://files.example.org/x");
    let (rig, proxy) = (Rig::new(), start("files.example.org", redirect).await);
    let pem = rig.cache.path().join("ca.pem");
    std::fs::write(&pem, &proxy.authority).unwrap();
    let access = Access { extra_authorities: Some(pem), ..through(&proxy) };
    let error = rig.fetch_with("https://files.example.org/x", b"hello", access).await.unwrap_err();
    assert!(error.to_string().contains("redirects from https to `http://files.example.org/x`"), "{error}");
}
