"""An instance of an AMI of a running rig, with port 22 open: `rig.sh run AMI KEY.pub`. Prints its id and its address.

The login is the AMI's own: cloud-init gives the key to its default user.
"""

import argparse
import time
from pathlib import Path

import boto3


def main() -> None:
    parser = argparse.ArgumentParser(prog="rig.sh run")
    parser.add_argument("image")
    parser.add_argument("key", type=Path, help="a public key for ssh")
    given = parser.parse_args()
    ec2 = boto3.client("ec2")
    name = f"run-{time.time_ns()}"
    ec2.import_key_pair(KeyName=name, PublicKeyMaterial=given.key.read_bytes())
    group = ec2.create_security_group(GroupName=name, Description="ssh for everybody")["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    wanted = {"ImageId": given.image, "InstanceType": "t3.small", "KeyName": name, "SecurityGroupIds": [group]}
    instance = ec2.run_instances(**wanted, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    ec2.get_waiter("instance_running").wait(InstanceIds=[instance], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    told = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    print(instance, told["PublicIpAddress"])


if __name__ == "__main__":
    main()
