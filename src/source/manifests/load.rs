//! Manifest files as one cluster state.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lbex_core::model::{EndpointList, EndpointListKey, EndpointsApi, Node, Service};
use lbex_core::names::ServiceKey;
use lbex_core::snapshot::Change;

use super::contents::{Contents, Object};
use super::files;
use super::parse::Position;
use super::problem::{FileProblem, ProblemKind, ShownPath};
use super::store::{Store, Suspects, parse, whole};

/// What manifest files hold, and what is wrong with them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The Services, in the order of the files.
    pub services: Vec<Arc<Service>>,
    /// The Nodes.
    pub nodes: Vec<Node>,
    /// The EndpointSlices and Endpoints.
    pub endpoints: Vec<EndpointList>,
    /// Every problem, in the order of the files.
    pub problems: Vec<FileProblem>,
}

impl Loaded {
    /// Whether a path could not be read at all (`lbex validate`: exit code 2).
    pub fn unreadable(&self) -> bool {
        self.problems.iter().any(|problem| problem.kind == ProblemKind::Unreadable)
    }

    /// The complete lists, for a snapshot: Nodes and endpoints before the Services that need them.
    pub fn into_changes(self) -> Vec<Change> {
        let (slices, endpoints): (Vec<_>, Vec<_>) =
            self.endpoints.into_iter().partition(|list| list.key.api == EndpointsApi::Slices);
        vec![
            Change::AllNodes(self.nodes),
            Change::AllEndpoints(EndpointsApi::Slices, slices),
            Change::AllEndpoints(EndpointsApi::Endpoints, endpoints),
            Change::AllServices(self.services),
        ]
    }
}

/// Reads manifest files and the manifest files of folders once. Never fails as a whole: what cannot be read, does not parse or
/// is not valid is among the problems. A path may be a pipe (`<(kubectl get ... -o yaml)`).
///
/// `namespaces`: only objects of these are read, and Nodes; none: those of all.
pub fn load(paths: &[PathBuf], namespaces: &[String]) -> Loaded {
    let is_pipe = |path: &Path| std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir());
    let mut loaded = Merge::new(namespaces);
    // One path after the other: the first path's objects count.
    for path in paths {
        if is_pipe(path) {
            match files::read_once(path).map(|bytes| parse(path, &bytes)) {
                Ok(Ok(contents)) => loaded.add(path, &contents),
                Ok(Err(error)) => {
                    let text = format!("it does not parse: {}", error.text);
                    let (line, column) = (error.at.line, error.at.column);
                    loaded.problem(FileProblem { line, column, ..whole(path, ProblemKind::NotParsed, text) });
                }
                Err(error) => loaded.problem(whole(path, ProblemKind::Unreadable, error.to_string())),
            }
        } else {
            let mut store = Store::new(std::slice::from_ref(path));
            store.refresh(&Suspects::default());
            loaded.add_store(&store);
        }
    }
    loaded.finish()
}

/// Puts the contents of files together.
pub(super) struct Merge<'a> {
    namespaces: &'a [String],
    loaded: Loaded,
    services: First<ServiceKey>,
    nodes: First<Arc<str>>,
    endpoints: First<EndpointListKey>,
}

/// Where an object of this kind was first seen.
type First<K> = HashMap<K, (PathBuf, Position)>;

impl<'a> Merge<'a> {
    pub(super) fn new(namespaces: &'a [String]) -> Self {
        Self {
            namespaces,
            loaded: Loaded::default(),
            services: HashMap::new(),
            nodes: HashMap::new(),
            endpoints: HashMap::new(),
        }
    }

    pub(super) fn finish(self) -> Loaded {
        self.loaded
    }

    fn problem(&mut self, problem: FileProblem) {
        self.loaded.problems.push(problem);
    }

    /// Adds all files of a store, with what is wrong with them.
    pub(super) fn add_store(&mut self, store: &Store) {
        self.loaded.problems.extend(store.troubles().cloned());
        for (path, contents) in store.contents() {
            self.add(path, contents);
        }
        for file in store.deleted() {
            let text = "it was deleted; what it held is served no more".to_owned();
            self.problem(whole(file, ProblemKind::Hint, text));
        }
        let nothing_else = store.troubles().next().is_none() && store.deleted().is_empty();
        if nothing_else && store.files().next().is_none() {
            for root in store.roots() {
                let text = "it holds no .yaml, .yml or .json file".to_owned();
                self.problem(whole(root, ProblemKind::Hint, text));
            }
        }
    }

    fn wanted(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|wanted| wanted == namespace)
    }

    fn add(&mut self, path: &Path, contents: &Contents) {
        for (at, object) in &contents.objects {
            match object {
                Object::Service(service) => {
                    if self.wanted(service.key.namespace.as_str()) {
                        match first(&mut self.services, service.key.clone(), path, *at) {
                            Ok(()) => self.loaded.services.push(service.clone()),
                            Err(before) => self.duplicate(path, *at, format!("Service {}", service.key), &before),
                        }
                    }
                }
                Object::Node(node) => match first(&mut self.nodes, node.name.clone(), path, *at) {
                    Ok(()) => self.loaded.nodes.push(node.clone()),
                    Err(before) => self.duplicate(path, *at, format!("Node {}", node.name), &before),
                },
                Object::Endpoints(list) => {
                    if self.wanted(&list.key.namespace) {
                        match first(&mut self.endpoints, list.key.clone(), path, *at) {
                            Ok(()) => self.loaded.endpoints.push(list.clone()),
                            Err(before) => self.duplicate(path, *at, shown(&list.key), &before),
                        }
                    }
                }
            }
        }
        for problem in &contents.problems {
            self.problem(FileProblem {
                path: path.to_path_buf(),
                line: problem.at.line,
                column: problem.at.column,
                kind: problem.kind,
                object: problem.object.clone(),
                text: problem.text.clone(),
            });
        }
        if contents.more_problems > 0 {
            let text = format!("{} more problems are not shown", contents.more_problems);
            self.problem(whole(path, ProblemKind::InvalidObject, text));
        }
    }

    fn duplicate(&mut self, path: &Path, at: Position, object: String, before: &(PathBuf, Position)) {
        let text =
            format!("it is already in {}:{}, which counts; this one is left out", ShownPath(&before.0), before.1);
        self.problem(FileProblem {
            path: path.to_path_buf(),
            line: at.line,
            column: at.column,
            kind: ProblemKind::Duplicate,
            object: Some(object),
            text,
        });
    }
}

/// Notes where an object is; where it is there already, says where.
fn first<K: Eq + Hash>(seen: &mut First<K>, key: K, path: &Path, at: Position) -> Result<(), (PathBuf, Position)> {
    use std::collections::hash_map::Entry;
    match seen.entry(key) {
        Entry::Occupied(before) => Err(before.get().clone()),
        Entry::Vacant(place) => {
            place.insert((path.to_path_buf(), at));
            Ok(())
        }
    }
}

fn shown(key: &EndpointListKey) -> String {
    let kind = match key.api {
        EndpointsApi::Slices => "EndpointSlice",
        EndpointsApi::Endpoints => "Endpoints",
    };
    format!("{kind} {}/{}", key.namespace, key.name)
}
