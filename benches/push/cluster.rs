//! The cluster on the API server: Services by the thousand, of which one changes.

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use lbex_test_harness::apiserver::ApiServer;
use lbex_test_harness::objects::{Object, Objects, node};
use lbex_test_harness::ports::free_port;
use serde_json::{Value, json};

use super::endpoints::{self, COUNT, HOLE};
use crate::common::cluster::{node_service, slice_on};

/// The Service that changes.
const MOVING: &str = "moving";

/// Its EndpointSlice.
pub(crate) const SLICE: &str = "moving-1";

/// How many objects are written to the API server at a time.
const WRITERS: usize = 8;

/// All objects of the benchmark.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    objects: Objects,
    /// Where the Service that changes is served.
    pub(crate) listener: u16,
    services: usize,
}

impl Cluster {
    /// The Nodes, and the Service that changes.
    pub(crate) async fn new(server: ApiServer, node_port: u16, connect_timeout: &str) -> Result<Self> {
        let objects = Objects::new(server.client().await?, server.namespace().await?);
        let nodes = (0..=HOLE).map(|number| node(&endpoints::node(number)).internal(endpoints::address(number)));
        for node in nodes {
            objects.create(&node).await?;
        }
        let listener = free_port()?;
        let moving = node_service(MOVING, listener, node_port).lbex("connect-timeout", connect_timeout);
        objects.create(&moving).await?;
        objects.create(&slice_on(MOVING, &endpoints::node(0))).await?;
        Ok(Self { server, objects, listener, services: 1 })
    }

    /// Adds Services, with an endpoint each, until there are so many.
    pub(crate) async fn grow_to(&mut self, services: usize) -> Result<()> {
        let mut new: Vec<Box<dyn Object>> = Vec::new();
        for number in self.services..services {
            let name = format!("service-{number}");
            let service = node_service(&name, free_port()?, 0).cluster_ip().lbex("upstream-type", "pod");
            new.push(Box::new(service));
            new.push(Box::new(slice_on(&name, &endpoints::node(number % COUNT))));
        }
        let writes = stream::iter(&new).map(|object| self.objects.create(object.as_ref()));
        writes.buffer_unordered(WRITERS).try_for_each(async |_| Ok(())).await?;
        self.services = services;
        Ok(())
    }

    /// Its version.
    pub(crate) async fn version(&self) -> Result<String> {
        let slice = self.objects.get("EndpointSlice", SLICE).await?;
        slice["metadata"]["resourceVersion"].as_str().map(ToOwned::to_owned).context("no resourceVersion")
    }

    /// Makes these, and no others, the endpoints of the Service that changes.
    pub(crate) async fn set_endpoints(&self, numbers: &[usize]) -> Result<()> {
        let slices = numbers.iter().map(|number| slice_on(MOVING, &endpoints::node(*number)).json());
        let endpoints: Vec<Value> = slices.map(|slice| slice["endpoints"][0].clone()).collect();
        // What an EndpointSlice names must differ; traffic goes to the Nodes' addresses.
        let numbered = numbers.iter().zip(endpoints).map(|(number, mut endpoint)| {
            endpoint["addresses"] = json!([format!("10.1.0.{}", number + 1)]);
            endpoint
        });
        let changes = json!({"endpoints": numbered.collect::<Vec<_>>()});
        self.objects.patch("EndpointSlice", SLICE, &changes).await
    }
}
