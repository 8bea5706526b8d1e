//! The rate-limit API's messages for `rk-noop`, from the service's own `proto/`, without an installed `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../proto");
    let descriptors = protox::compile(["envoy/service/ratelimit/v3/rls.proto"], ["../proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .include_file("envoy.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
