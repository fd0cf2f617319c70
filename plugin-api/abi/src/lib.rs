//! The frozen ABI between a replug host and its plugins.
