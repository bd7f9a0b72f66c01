//! Manifest files as a source (`--manifests`, contract section 2).
