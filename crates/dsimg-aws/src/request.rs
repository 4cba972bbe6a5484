//! What RunInstances is asked for.

use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification, InstanceInterruptionBehavior,
    InstanceMarketOptionsRequest, InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification, InstanceType,
    MarketType, ResourceType, ShutdownBehavior, SpotInstanceType, SpotMarketOptions, VolumeType,
};

use dsimg_plan::Digest;
use dsimg_template::template::aws::{Address, VolumeTable};

use crate::attempts::Attempt;
use crate::launch::Launch;

impl Launch<'_> {
    /// The `number` of the attempt is part of its token.
    pub(crate) fn request(&self, number: usize, attempt: &Attempt) -> RunInstancesFluentBuilder {
        let instance = &self.table.instance;
        let mut request = self
            .account
            .ec2
            .run_instances()
            .image_id(self.image)
            .instance_type(InstanceType::from(attempt.instance_type.as_str()))
            .min_count(1)
            .max_count(1)
            .client_token(token(&self.marks.name, number))
            .user_data(self.user_data)
            .set_key_name(self.key_pair.map(str::to_owned))
            // What powers itself off before its time has no one to look after it.
            .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
            .metadata_options(InstanceMetadataOptionsRequest::builder().http_tokens(HttpTokensState::Required).build())
            .block_device_mappings(device(self.root_device, &instance.root))
            .tag_specifications(self.marks.on(ResourceType::Instance))
            .tag_specifications(self.marks.on(ResourceType::Volume))
            .tag_specifications(self.marks.on(ResourceType::NetworkInterface));
        for extra in &instance.volumes {
            request = request.block_device_mappings(device(&extra.device, &extra.volume));
        }
        if let Some(profile) = &instance.profile {
            request = request.iam_instance_profile(IamInstanceProfileSpecification::builder().name(profile).build());
        }
        if attempt.is_spot {
            request = request
                .instance_market_options(self.spot_market())
                .tag_specifications(self.marks.on(ResourceType::SpotInstancesRequest));
        }
        self.in_network(request, attempt)
    }

    fn in_network(&self, request: RunInstancesFluentBuilder, attempt: &Attempt) -> RunInstancesFluentBuilder {
        let is_public = match self.table.reach.address {
            Address::Auto => {
                let groups = (!self.groups.is_empty()).then(|| self.groups.to_vec());
                return request.subnet_id(&attempt.place.subnet).set_security_group_ids(groups);
            }
            Address::Public => true,
            Address::Private => false,
        };
        request.network_interfaces(
            InstanceNetworkInterfaceSpecification::builder()
                .device_index(0)
                .subnet_id(&attempt.place.subnet)
                .set_groups((!self.groups.is_empty()).then(|| self.groups.to_vec()))
                .associate_public_ip_address(is_public)
                .delete_on_termination(true)
                .build(),
        )
    }

    /// One-time, so that the request ends with its instance: a persistent one would start another.
    fn spot_market(&self) -> InstanceMarketOptionsRequest {
        let max_price = self.table.instance.spot.as_ref().and_then(|spot| spot.max_price.clone());
        let options = SpotMarketOptions::builder()
            .set_max_price(max_price)
            .spot_instance_type(SpotInstanceType::OneTime)
            .instance_interruption_behavior(InstanceInterruptionBehavior::Terminate)
            .build();
        InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).spot_options(options).build()
    }
}

/// At most 64 characters, the same for the same attempt of the same machine.
fn token(name: &str, number: usize) -> String {
    Digest::of_value(&(name, number)).as_str().chars().take(48).collect()
}

fn device(name: &str, volume: &VolumeTable) -> BlockDeviceMapping {
    let is_encrypted = volume.encrypted == Some(true) || volume.kms_key.is_some();
    let number = |value: Option<u32>| value.and_then(|value| i32::try_from(value).ok());
    let ebs = EbsBlockDevice::builder()
        .volume_size(i32::try_from(volume.size.0.div_ceil(1 << 30)).unwrap_or(i32::MAX))
        .volume_type(VolumeType::from(volume.kind.as_str()))
        .set_iops(number(volume.iops))
        .set_throughput(number(volume.throughput))
        // `false` is refused for a snapshot that is encrypted.
        .set_encrypted(is_encrypted.then_some(true))
        .set_kms_key_id(volume.kms_key.clone())
        .delete_on_termination(true)
        .build();
    BlockDeviceMapping::builder().device_name(name).ebs(ebs).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_one_attempt() {
        let (one, two) = (token("dsimg-1-aws-1", 0), token("dsimg-1-aws-1", 1));
        assert_eq!(one, token("dsimg-1-aws-1", 0));
        assert!(one != two && one.len() <= 64);
    }
}
