//! The clients of one region, with limits: the SDK waits for ever by itself.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::retry::{RetryPartition, TokenBucket};

use dsimg_template::template::aws::AwsAccount;

/// How often a call of EC2, SSM or STS is tried while AWS asks for patience.
const ATTEMPTS: u32 = 20;

/// With whose rights, and where; one for each region that a build works in.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) region: String,
    pub(crate) profile: Option<String>,
    pub(crate) ec2: aws_sdk_ec2::Client,
    pub(crate) ebs: aws_sdk_ebs::Client,
    pub(crate) kms: aws_sdk_kms::Client,
    pub(crate) ssm: aws_sdk_ssm::Client,
    pub(crate) sts: aws_sdk_sts::Client,
    config: SdkConfig,
}

impl Account {
    /// Reads profiles and the environment; calls nobody but for credentials, at the first call.
    pub(crate) async fn open(account: &AwsAccount) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(account.region.clone()))
            // Not adaptive: for callers of a few calls a minute, one refusal there costs a pause of 20 s before each
            // repeat from then on. A publish with every second call throttled took over 8 minutes so, and half a minute now.
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(Duration::from_secs(20)))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(10))
                    .operation_attempt_timeout(Duration::from_secs(60))
                    .operation_timeout(Duration::from_secs(300))
                    .build(),
            );
        if let Some(profile) = &account.profile {
            loader = loader.profile_name(profile);
        }
        Self::with_config(account, loader.load().await)
    }

    /// The same rights in another region.
    pub(crate) fn in_region(&self, region: &str) -> Self {
        let config = self.config.to_builder().region(Region::new(region.to_owned())).build();
        Self::with_config(&AwsAccount { region: region.to_owned(), profile: self.profile.clone() }, config)
    }

    /// With connections of its own.
    pub(crate) fn another_ebs(&self) -> aws_sdk_ebs::Client {
        aws_sdk_ebs::Client::from_conf(block_config(&self.config))
    }

    fn with_config(account: &AwsAccount, config: SdkConfig) -> Self {
        Self {
            region: account.region.clone(),
            profile: account.profile.clone(),
            ec2: aws_sdk_ec2::Client::from_conf(
                aws_sdk_ec2::config::Builder::from(&config).retry_partition(own_repeats()).build(),
            ),
            ebs: aws_sdk_ebs::Client::from_conf(block_config(&config)),
            kms: aws_sdk_kms::Client::from_conf(
                aws_sdk_kms::config::Builder::from(&config).retry_partition(own_repeats()).build(),
            ),
            ssm: aws_sdk_ssm::Client::from_conf(
                aws_sdk_ssm::config::Builder::from(&config).retry_partition(own_repeats()).build(),
            ),
            sts: aws_sdk_sts::Client::from_conf(
                aws_sdk_sts::config::Builder::from(&config).retry_partition(own_repeats()).build(),
            ),
            config,
        }
    }
}

/// The SDK lets all clients of a process share one store of repeats, which several builds at a time would use up while
/// AWS is busy. How often each call is repeated is limited anyway.
fn own_repeats() -> RetryPartition {
    RetryPartition::custom("dsimg").token_bucket(TokenBucket::unlimited()).build()
}

/// From outside AWS, some puts of blocks connect and are never answered (awslabs/coldsnap#437). They are tried again
/// by the upload itself, which knows what else is under way.
fn block_config(config: &SdkConfig) -> aws_sdk_ebs::Config {
    aws_sdk_ebs::config::Builder::from(config)
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(10))
                .read_timeout(Duration::from_secs(12))
                .operation_attempt_timeout(Duration::from_secs(60))
                .build(),
        )
        // The limits above do, and of many puts on a slow line some have to wait.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build()
}
