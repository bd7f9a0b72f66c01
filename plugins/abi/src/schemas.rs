//! The JSON Schemas of the documents, made from their types.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use crate::documents::{Capabilities, Delta, Desired, Observation, Report, Settings};
use crate::schema_id::Document;

/// Every document's schema, with the name of its file in `plugins/schemas`.
pub fn all() -> Vec<(String, Schema)> {
    vec![
        schema::<Desired>(),
        schema::<Delta>(),
        schema::<Report>(),
        schema::<Observation>(),
        schema::<Settings>(),
        schema::<Capabilities>(),
    ]
}

fn schema<D: Document + JsonSchema>() -> (String, Schema) {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<D>();
    schema.insert("$id".to_owned(), D::SCHEMA.into());
    (format!("{}.json", D::SCHEMA.replace('/', ".")), schema)
}
