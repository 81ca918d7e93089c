//! Compiles the .proto files in pure Rust: no protoc to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        ["record.proto", "ingest.proto", "evidence.proto", "enroll.proto"],
        ["proto"],
    )?;
    // What holds a token cannot be printed.
    let secret = ".pcigate.v1.EnrollRequest";
    tonic_prost_build::configure().skip_debug([secret]).compile_fds(files)?;
    Ok(())
}
