//! What is released, installed where it is to run: the static program in an empty root, the package in a real systemd, the image by a
//! real container runtime. `make test-install` builds the static program and says where it is (`LBEX_STATIC`). `release` has a run of its
//! own: `make test-release`.
//!
//! Needs root, and from Debian: podman, runc, buildah, skopeo, docker.io, mmdebstrap and others (`tests/tools/install.sh packaging`).

mod another;
mod booted;
mod container_page;
mod docker;
mod dockerfile;
mod empty_root;
mod host;
mod image;
mod podman;
mod registry;
mod release;
mod support;
mod tarball;
