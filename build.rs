//! Compiles `proto/` without an installed `protoc` and keeps the descriptors for gRPC reflection and the JSON mapping.

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["envoy/service/ratelimit/v3/rls.proto"], ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(true)
        .codec_path("crate::wire::codec::LenientCodec")
        .include_file("envoy.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
