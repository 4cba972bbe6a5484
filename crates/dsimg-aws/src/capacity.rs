//! Answers that mean: not here, not now, but perhaps elsewhere.

use aws_sdk_ec2::config::retry::{ClassifyRetry, RetryAction};
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::operation::run_instances::RunInstancesError;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::RetryClassifierPriority;

/// Codes of `RunInstances` after which another type, zone or market is tried.
const ELSEWHERE: [&str; 14] = [
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientCapacity",
    "InsufficientReservedInstanceCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientAddressCapacity",
    "UnfulfillableCapacity",
    "Unsupported",
    "UnsupportedOperation",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
    // Each family of types, and the spot market, has a quota of its own.
    "VcpuLimitExceeded",
    "InstanceLimitExceeded",
    "InsufficientInstanceQuota",
];

pub(crate) fn is_elsewhere(code: &str) -> bool {
    ELSEWHERE.contains(&code)
}

/// Of an instance that ended while it started: another try elsewhere may do better.
pub(crate) fn may_do_better_elsewhere(state_reason: &str) -> bool {
    ["Server.InsufficientInstanceCapacity", "Server.SpotInstanceTermination", "Server.InternalError"]
        .iter()
        .any(|code| state_reason.starts_with(code))
}

/// EC2 says that it has no capacity with status 500, which the SDK would take for a fault and try again in vain.
#[derive(Debug)]
pub(crate) struct NoCapacityIsFinal;

impl ClassifyRetry for NoCapacityIsFinal {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some(Err(error)) = context.output_or_error() else { return RetryAction::NoActionIndicated };
        let service = error.as_operation_error().and_then(|error| error.downcast_ref::<RunInstancesError>());
        match service.and_then(ProvideErrorMetadata::code) {
            Some(code) if is_elsewhere(code) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "no capacity"
    }

    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}
