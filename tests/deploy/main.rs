//! What installs LBEX elsewhere than on a host: the scripts for Google Cloud, the chart and manifests for Kubernetes, and the pages
//! that say how.

mod chart;
mod gce;
mod pages;
mod rights;
mod scripts;
