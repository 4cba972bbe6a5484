"""An EC2 where machines are real: moto for the interface, QEMU for the instances, files for the disks.

Start reading at `server.py`. What it imitates and what not is in docs/ec2-rig.md.
"""
