//! Has addresses in the program packed (`DT_RELR`): half a megabyte less of it, on disk and in memory. The C libraries read
//! them since glibc 2.36 and musl 1.2.4; a linker that cannot write them says so and goes on.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
