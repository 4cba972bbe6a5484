//! The binary carries `provisioners/` and `templates/` inside it: files that come or go make it anew.

fn main() {
    println!("cargo:rerun-if-changed=../../provisioners");
    println!("cargo:rerun-if-changed=../../templates");
}
