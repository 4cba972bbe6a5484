//! What AWS answered, in dsimg's words.

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use dsimg_machine::MachineError;

use crate::account::Account;

/// AWS's own code for it, such as `InvalidAMIID.NotFound`; `None` where no answer came.
pub(crate) fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// Whether the call may have taken effect although it failed: look before it is repeated.
pub(crate) fn may_be_done<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or_default();
            code.starts_with("Internal") || code.starts_with("Unavailable") || code.starts_with("ServiceUnavailable")
        }
        _ => true,
    }
}

/// `action` is what was tried, as "start an instance".
pub(crate) fn explain<E, R>(action: &str, account: &Account, error: SdkError<E, R>) -> MachineError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let region = &account.region;
    let Some(service) = error.as_service_error() else {
        let why = causes(&error);
        return MachineError::TryAgain {
            what: format!("cannot {action} in {region}: {why}"),
            hint: Some(connection_hint(&why).to_owned()),
        };
    };
    let code = service.code().unwrap_or("an error without a code").to_owned();
    let message = service.message().unwrap_or_default();
    let what = format!("cannot {action} in {region}: {code}: {message}");
    match hint(&code) {
        Known::Patience(hint) => MachineError::TryAgain { what, hint: Some(hint.to_owned()) },
        Known::Wrong(hint) => MachineError::Refused { what, hint: Some(hint.to_owned()) },
        Known::Not => MachineError::Refused { what, hint: None },
    }
}

enum Known {
    /// It may pass.
    Patience(&'static str),
    /// It won't without a change.
    Wrong(&'static str),
    Not,
}

fn hint(code: &str) -> Known {
    match code {
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
            Known::Wrong("`dsimg aws policy` prints the rights that the template needs")
        }
        "AuthFailure" | "InvalidClientTokenId" | "UnrecognizedClientException" | "SignatureDoesNotMatch" => {
            Known::Wrong("the credentials are not valid: look at `aws sts get-caller-identity`")
        }
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            Known::Patience("log in again, such as with `aws sso login`, and repeat the build")
        }
        "OptInRequired" => Known::Wrong("the account is not signed up for this, or the region is not switched on"),
        "VcpuLimitExceeded" | "InstanceLimitExceeded" | "MaxSpotInstanceCountExceeded" => {
            Known::Wrong("ask for a higher quota in the console under Service Quotas, or name another `instance_type`")
        }
        code if code.starts_with("Internal") || code.contains("Unavailable") || is_throttled(code) => {
            Known::Patience("AWS is busy; try again later")
        }
        _ => Known::Not,
    }
}

/// AWS asks for fewer calls.
pub(crate) fn is_throttled(code: &str) -> bool {
    matches!(
        code,
        "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "RequestThrottledException" | "SlowDown"
    )
}

fn connection_hint(why: &str) -> &'static str {
    if why.contains("redentials") {
        "dsimg found no credentials: set AWS_PROFILE, or a `profile` in the template, or log in with `aws sso login`"
    } else if why.contains("certificate") || why.contains("UnknownIssuer") {
        "a proxy that re-signs TLS? Put its certificate where the system's are, or name it in AWS_CA_BUNDLE"
    } else {
        "look at the network and at HTTPS_PROXY; the region may be misspelt"
    }
}

/// The error with all that caused it, each once.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}
