"""Security groups: an instance's port 22 answers only while a rule of its groups opens it.

From which addresses a rule opens it is not looked at: who tests comes from 127.0.0.1, whatever its address is to the world.
"""

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend

from .state import graft

SSH = 22

_moto_authorize = EC2Backend.authorize_security_group_ingress
_moto_revoke = EC2Backend.revoke_security_group_ingress
_moto_modify_instance = EC2Backend.modify_instance_security_groups
_moto_delete = EC2Backend.delete_security_group


def opens_ssh(instance) -> bool:
    """Whether a rule of the instance's groups lets ssh in."""
    for group in instance.security_groups:
        for rule in group.ingress_rules:
            # A rule for members of a group lets nobody in from outside.
            if not rule.ip_range:
                continue
            if rule.ip_protocol == "-1" or (rule.ip_protocol == "tcp" and rule.from_port <= SSH <= rule.to_port):
                return True
    return False


def refresh(backend) -> None:
    """Opens and closes the ports of all machines as the rules are now."""
    for instance in backend.all_instances():
        if instance.machine and instance.state in ("pending", "running"):
            instance.machine.set_port(opens_ssh(instance))


class BackendCalls:
    def authorize_security_group_ingress(self, *arguments, **named):
        result = _moto_authorize(self, *arguments, **named)
        refresh(self)
        return result

    def revoke_security_group_ingress(self, *arguments, **named):
        result = _moto_revoke(self, *arguments, **named)
        refresh(self)
        return result

    def modify_instance_security_groups(self, *arguments, **named):
        result = _moto_modify_instance(self, *arguments, **named)
        refresh(self)
        return result

    def delete_security_group(self, name=None, group_id=None):
        for instance in self.all_instances():
            groups = instance.security_groups if instance.state != "terminated" else []
            if any(group.id == group_id or (name and group.name == name) for group in groups):
                raise EC2ClientError("DependencyViolation", f"resource {group_id or name} has a dependent object")
        return _moto_delete(self, name, group_id)


def install() -> None:
    graft(BackendCalls, EC2Backend)
