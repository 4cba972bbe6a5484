//! A builder on QEMU: base images, disks, QMP.
