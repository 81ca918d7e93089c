# syntax=docker/dockerfile:1
# The collector's image, with the command `pcigate`, for those who build with a daemon.
# `cargo xtask image` makes it without one, and makes what is in this one. From the repository's root:
#   docker build -f deploy/docker/collector.Dockerfile -t pcigate/pcigate-collector:0.1.0 .
FROM rust:1.95-bookworm AS build
ARG SOURCE_DATE_EPOCH=0
# As `cargo xtask setup` does for building: rustc-web compiles the kernel programs.
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    binutils libclang-14-dev llvm-22-dev libpolly-22-dev rustc-web cargo-web rust-web-src
WORKDIR /src
COPY . .
RUN cargo xtask image --only pcigate-collector --compression none --out /out \
 && mkdir /archive /image \
 && tar -xf /out/pcigate-collector.tar -C /archive \
 && tar -xf "/archive/$(grep -o '"Layers":\["[^"]*' /archive/manifest.json | cut -d'"' -f4)" -C /image

# No shell and no package manager: the programs, the C library, their licences, and what is in it
# (/usr/share/doc/pcigate-collector/sbom.spdx.json).
FROM scratch
COPY --from=build /image/ /
ENV PATH=/usr/bin
USER 65528:65528
ENTRYPOINT ["/usr/bin/pcigate-collector"]
CMD ["serve", "--config", "/etc/pcigate/collector.yaml"]
