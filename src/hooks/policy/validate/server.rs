//! Where servers are and whom to believe: URLs, endpoints, PEM files, users.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Report;
use crate::hooks::policy::raw::At;
use crate::hooks::policy::secrets::masked_url;
use crate::hooks::policy::{GrpcEndpoint, Template, Tls, WebhookUrl};

/// Of a PEM file, in bytes.
const LARGEST: u64 = 1 << 20;

/// What is said about trust.
pub struct Trust {
    pub ca: Option<At<String>>,
    pub cert: Option<At<String>>,
    pub key: Option<At<String>>,
    pub insecure: Option<At<bool>>,
}

/// Reads what is needed for TLS. `used`: whether there is TLS at all, and `with` what it takes for that.
pub fn tls(report: &mut Report<'_>, trust: Trust, used: bool, with: &str) -> Option<Tls> {
    let before = report.mistakes.len();
    if !used {
        let files = [("caFile", &trust.ca), ("certFile", &trust.cert), ("keyFile", &trust.key)];
        let given = files.into_iter().filter_map(|(key, file)| Some((key, file.as_ref()?.place())));
        let insecure = trust.insecure.as_ref().map(|it| ("insecureSkipVerify", it.place()));
        if let Some((key, at)) = given.chain(insecure).next() {
            report.wrong(at, format!("{key} does nothing without TLS"), format!("remove it, or use {with}"));
            return None;
        }
    }
    let ca = trust.ca.as_ref().and_then(|file| {
        pem(report, file, "certificate", |pem| CertificateDer::pem_slice_iter(pem).next().is_some_and(|it| it.is_ok()))
    });
    let cert = trust.cert.as_ref().and_then(|file| {
        pem(report, file, "certificate", |pem| CertificateDer::pem_slice_iter(pem).next().is_some_and(|it| it.is_ok()))
    });
    let key = trust
        .key
        .as_ref()
        .and_then(|file| pem(report, file, "private key", |pem| PrivateKeyDer::from_pem_slice(pem).is_ok()));
    match (&trust.cert, &trust.key) {
        (Some(cert), None) => report.wrong(cert.place(), "certFile is given without keyFile", "write both, or none"),
        (None, Some(key)) => report.wrong(key.place(), "keyFile is given without certFile", "write both, or none"),
        _ => {}
    }
    let insecure_skip_verify = trust.insecure.is_some_and(|insecure| *insecure);
    report.is_clean_since(before).then(|| Tls { ca, identity: cert.zip(key), insecure_skip_verify })
}

/// A file's content, if it holds what it should.
fn pem(report: &mut Report<'_>, file: &At<String>, what: &str, holds: impl Fn(&[u8]) -> bool) -> Option<Bytes> {
    let path = Path::new(file.as_str());
    if !path.is_absolute() {
        report.wrong(
            file.place(),
            format!("`{}` is not an absolute path", **file),
            "write it from the root on, as /etc/crihook/ca.pem",
        );
        return None;
    }
    let mut bytes = Vec::new();
    let read = path.metadata().and_then(|metadata| {
        if !metadata.is_file() {
            return Err(std::io::Error::other("not a file"));
        }
        File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        report.wrong(file.place(), format!("`{}` cannot be read: {error}", **file), "name a PEM file of this node");
        return None;
    }
    if bytes.len() as u64 > LARGEST || !holds(&bytes) {
        report.wrong(
            file.place(),
            format!("there is no {what} in `{}`", **file),
            format!("name a PEM file with a {what}"),
        );
        return None;
    }
    Some(bytes.into())
}

/// Where a webhook goes.
pub fn webhook_url(report: &mut Report<'_>, url: &At<String>) -> Option<WebhookUrl> {
    let (at, said) = (url.place(), masked_url(url));
    let help = "write it as https://hooks.example/events or unix:///run/hooks.sock:/events";
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        report.wrong(at, format!("`{said}` is not a URL: it has spaces"), help);
        return None;
    }
    if let Some(rest) = url.strip_prefix("unix://") {
        let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
        if !socket.starts_with('/') || socket.len() < 2 || socket.contains("$(") {
            let message = "the socket in the URL is not an absolute path";
            report.wrong(at, message, "write it as unix:///run/hooks.sock:/events");
            return None;
        }
        if !path.starts_with('/') {
            report.wrong(
                at,
                "the path behind the socket does not begin with a slash",
                "write it as unix:///run/hooks.sock:/events",
            );
            return None;
        }
        let whole = report.template(url)?;
        let path = Template::parse(path).ok()?;
        drop(whole);
        return Some(WebhookUrl::Unix { socket: socket.into(), path });
    }
    if !url.starts_with("http://") && !url.starts_with("https://") {
        report.wrong(at, format!("`{said}` is not a URL that an event can be sent to"), help);
        return None;
    }
    let template = report.template(url)?;
    // Whatever is filled in, it is a word; a port is never filled in.
    let filled = template.expand(|_| "1".to_owned());
    match reqwest::Url::parse(&filled) {
        Ok(parsed) if parsed.port() != Some(0) => Some(WebhookUrl::Http(template)),
        Ok(_) => {
            report.wrong(at, format!("`{said}` is not a URL: 0 is not a port"), help);
            None
        }
        Err(error) => {
            report.wrong(at, format!("`{said}` is not a URL: {error}"), help);
            None
        }
    }
}

/// Where a hook server listens.
pub fn grpc_endpoint(report: &mut Report<'_>, endpoint: &At<String>) -> Option<GrpcEndpoint> {
    let help = "write HOST:PORT or unix:///run/hooks.sock";
    if let Some(socket) = endpoint.strip_prefix("unix://") {
        if !socket.starts_with('/') || socket.len() < 2 {
            report.wrong(endpoint.place(), "the socket is not an absolute path", help);
            return None;
        }
        if socket.contains("$(") {
            report.wrong(
                endpoint.place(),
                "the address of a gRPC server is the same for all pods; nothing is filled in",
                help,
            );
            return None;
        }
        return Some(GrpcEndpoint::Unix(socket.into()));
    }
    let authority = endpoint.parse::<http::uri::Authority>().ok();
    let port = authority.as_ref().and_then(http::uri::Authority::port_u16).filter(|port| *port > 0);
    let host = authority.as_ref().map(http::uri::Authority::host).filter(|host| !host.is_empty());
    if port.is_none() || host.is_none() || endpoint.contains(['@', '/', '$']) {
        report.wrong(endpoint.place(), format!("`{}` is not a host and a port", masked_url(endpoint)), help);
        return None;
    }
    Some(GrpcEndpoint::Tcp(endpoint.to_string()))
}

/// Whether there is such a user.
pub fn user(user: &str) -> Result<(), String> {
    if user.parse::<u32>().is_ok() {
        return Ok(());
    }
    match nix::unistd::User::from_name(user) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!("there is no user `{user}` on this node")),
        Err(error) => Err(format!("the user `{user}` cannot be looked up: {error}")),
    }
}
