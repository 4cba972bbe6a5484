//! The shipped provisioners and templates are inside the program: one that is added makes it anew.

fn main() {
    for folder in ["provisioners", "templates"] {
        println!("cargo::rerun-if-changed=../../{folder}");
    }
}
