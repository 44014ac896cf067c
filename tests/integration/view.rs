//! `proto/cri.proto` against the list of CRI's facts: a number or a type that is off by one would be read as silence.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

const FACTS: &str = include_str!("../../proto/cri-v1.36.txt");
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri.binpb"));

fn view() -> FileDescriptorProto {
    let mut set = FileDescriptorSet::decode(DESCRIPTORS).expect("the descriptors decode");
    assert_eq!(set.file.len(), 1, "the view is one file");
    set.file.remove(0)
}

fn facts() -> BTreeSet<&'static str> {
    FACTS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
}

/// The lines that the view would contribute to a list of facts.
fn lines_of(file: &FileDescriptorProto) -> Vec<String> {
    let mut lines = Vec::new();
    for service in &file.service {
        for method in &service.method {
            let stream = if method.server_streaming() { " server-stream" } else { "" };
            let (input, output) = (bare(method.input_type()), bare(method.output_type()));
            assert!(!method.client_streaming(), "CRI has no client streams");
            lines.push(format!("rpc {} {} {input} {output}{stream}", service.name(), method.name()));
        }
    }
    for message in &file.message_type {
        lines.extend(message.field.iter().map(|field| field_line(message, field)));
    }
    for one in &file.enum_type {
        lines.extend(one.value.iter().map(|value| format!("enum {} {} {}", one.name(), value.number(), value.name())));
    }
    lines
}

fn field_line(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| {
        nested.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
            && field.type_name().ends_with(&format!(".{}", nested.name()))
    });
    let (kind, suffix) = match entry {
        Some(entry) => (entry.field.iter().map(type_name).collect::<Vec<_>>().join(","), " map"),
        None if field.label() == Label::Repeated => (type_name(field), " repeated"),
        None => (type_name(field), ""),
    };
    format!("field {} {} {} {kind}{suffix}", message.name(), field.number(), field.name())
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => bare(field.type_name()).to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
    }
}

fn bare(name: &str) -> &str {
    name.trim_start_matches(".runtime.v1.")
}

#[test]
fn every_method_field_and_enum_value_is_as_cri_has_it() {
    let facts = facts();
    let file = view();
    assert_eq!(file.package(), "runtime.v1");
    let lines = lines_of(&file);
    assert!(lines.len() > 300, "only {} lines were compared", lines.len());
    let wrong: Vec<_> = lines.iter().filter(|line| !facts.contains(line.as_str())).collect();
    assert!(wrong.is_empty(), "not in proto/cri-v1.36.txt: {wrong:#?}");
}

#[test]
fn an_enum_has_all_the_values_that_cri_has() {
    for one in &view().enum_type {
        let prefix = format!("enum {} ", one.name());
        let known = facts().iter().filter(|line| line.starts_with(&prefix)).count();
        assert_eq!(one.value.len(), known, "{}", one.name());
    }
}

#[test]
fn no_credential_and_no_environment_is_ever_decoded() {
    let lines = lines_of(&view());
    for secret in ["AuthConfig", " envs ", " auth "] {
        assert!(!lines.iter().any(|line| line.contains(secret)), "{secret} is in the view");
    }
}
