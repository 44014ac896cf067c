//! Trust: whom a client of a hook server believes, and who it says it is. The same for `https` and gRPC.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::hooks::policy::Tls;

/// Makes TLS configurations. The system's roots are read once, when somebody first needs them.
#[derive(Debug)]
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    system: OnceLock<Arc<dyn ServerCertVerifier>>,
}

impl Trust {
    pub(super) fn new() -> Self {
        Self { provider: Arc::new(rustls::crypto::ring::default_provider()), system: OnceLock::new() }
    }

    /// What a policy says, as rustls understands it.
    ///
    /// # Errors
    /// Fails, in words for people, for files that are not what they should be.
    pub(super) fn config(&self, tls: &Tls) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let builder = if tls.insecure_skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(self.provider.clone())))
        } else if let Some(ca) = &tls.ca {
            builder.with_root_certificates(roots(ca)?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(self.system()?)
        };
        let Some((chain, key)) = &tls.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(chain).map_err(|error| format!("certFile: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "keyFile: there is no private key in it (PEM)")?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("certFile and keyFile do not go together: {error}"))
    }

    /// Believes those that the system believes. A node without such a list still has Mozilla's, which is compiled in.
    fn system(&self) -> Result<Arc<dyn ServerCertVerifier>, String> {
        if let Some(known) = self.system.get() {
            return Ok(known.clone());
        }
        let verifier = rustls_platform_verifier::Verifier::new(self.provider.clone())
            .map_err(|error| format!("the system's certificate authorities cannot be read: {error}"))?;
        Ok(self.system.get_or_init(|| Arc::new(verifier)).clone())
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).map_err(|error| format!("caFile: {error}"))? {
        roots.add(certificate).map_err(|error| format!("caFile: not a certificate authority: {error}"))?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err("there is no certificate in it (PEM)"),
    }
}

/// Believes anybody, as a policy has asked in so many words: the connection is encrypted, and that is all.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::testing::Authority;
    use super::*;

    #[test]
    fn files_that_are_not_what_they_should_be_are_named_and_not_shown() {
        let told = |tls: &Tls| Trust::new().config(tls).err().unwrap_or_default();
        let authority = Authority::new();
        let junk = Bytes::from_static(b"hunter2");
        let (chain, key) = authority.client.clone();
        assert_eq!(
            told(&Tls { ca: Some(junk.clone()), ..Tls::default() }),
            "caFile: there is no certificate in it (PEM)"
        );
        let identity = |chain, key| Tls { identity: Some((chain, key)), ..authority.trusted() };
        assert_eq!(told(&identity(junk.clone(), key)), "certFile: there is no certificate in it (PEM)");
        assert_eq!(told(&identity(chain.clone(), junk)), "keyFile: there is no private key in it (PEM)");
        let mixed = told(&identity(chain, authority.server.1.clone()));
        assert!(mixed.starts_with("certFile and keyFile do not go together"), "{mixed}");
    }

    #[test]
    fn the_systems_authorities_are_read_once() {
        let trust = Trust::new();
        let (first, second) = (trust.system().unwrap(), trust.system().unwrap());
        assert!(Arc::ptr_eq(&first, &second));
    }
}
