//! Tokens for Amazon MSK: the presigned address of an action, as AWS' own signers for OAUTHBEARER make it. MSK's listeners
//! for IAM take it beside the mechanism `AWS_MSK_IAM` of the library for Java.
//!
//! Not tried against AWS: the tests hold the token against its documented form only.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use zeroize::Zeroizing;

use crate::probe::{Failure, Reason};

/// How long a token holds: what AWS' signers use.
const LIFETIME: Duration = Duration::from_secs(900);

/// A user or role of AWS.
pub(super) struct MskIam {
    region: String,
    credentials: Credentials,
}

impl MskIam {
    /// No I/O.
    pub(super) fn new(region: &str, access_key_id: &str, secret_access_key: &str, session_token: Option<&str>) -> Self {
        let session_token = session_token.map(str::to_owned);
        let credentials = Credentials::new(access_key_id, secret_access_key, session_token, None, "midwatch");
        Self { region: region.to_owned(), credentials }
    }

    /// A token that holds from that time on, and for how long.
    ///
    /// # Errors
    /// `internal`: it cannot be signed.
    pub(super) fn sign(&self, now: SystemTime) -> Result<(Zeroizing<String>, Duration), Failure> {
        let defect = |words: String| Failure::new(Reason::Internal, format!("cannot sign: {words}"));
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(LIFETIME);
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("kafka-cluster")
            .time(now)
            .settings(settings)
            .build()
            .map_err(|error| defect(error.to_string()))?;
        let url = format!("https://kafka.{}.amazonaws.com/?Action=kafka-cluster%3AConnect", self.region);
        let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]))
            .map_err(|error| defect(error.to_string()))?;
        let (instructions, _) = sign(request, &params.into()).map_err(|error| defect(error.to_string()))?.into_parts();
        let mut signed = Zeroizing::new(url);
        for (name, value) in instructions.params() {
            signed.push_str(&format!("&{name}={}", super::token::form(value)));
        }
        signed.push_str(concat!("&User-Agent=midwatch%2F", env!("CARGO_PKG_VERSION")));
        Ok((Zeroizing::new(BASE64.encode(signed.as_bytes())), LIFETIME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_documented_form() {
        let msk = MskIam::new("eu-central-1", "AKIDEXAMPLE", "wJalrXUtnFEMI", Some("session/token"));
        let (token, lifetime) = msk.sign(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
        assert_eq!(lifetime.as_secs(), 900);
        let url: hyper::Uri = String::from_utf8(BASE64.decode(token.as_bytes()).unwrap()).unwrap().parse().unwrap();
        assert_eq!((url.scheme_str(), url.host()), (Some("https"), Some("kafka.eu-central-1.amazonaws.com")));
        let query: Vec<(&str, &str)> =
            url.query().unwrap().split('&').filter_map(|pair| pair.split_once('=')).collect();
        let value = |name: &str| query.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        assert_eq!(value("Action"), Some("kafka-cluster%3AConnect"));
        assert_eq!(value("X-Amz-Algorithm"), Some("AWS4-HMAC-SHA256"));
        assert_eq!(value("X-Amz-Date"), Some("20231114T221320Z"));
        assert_eq!(value("X-Amz-Expires"), Some("900"));
        assert_eq!(value("X-Amz-SignedHeaders"), Some("host"));
        assert_eq!(value("X-Amz-Security-Token"), Some("session%2Ftoken"));
        assert_eq!(
            value("X-Amz-Credential"),
            Some("AKIDEXAMPLE%2F20231114%2Feu-central-1%2Fkafka-cluster%2Faws4_request")
        );
        assert_eq!(value("X-Amz-Signature").map(str::len), Some(64));
    }
}
