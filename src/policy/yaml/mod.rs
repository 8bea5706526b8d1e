//! YAML as the reference server's reader (yaml.v2, so YAML 1.1) takes it, but with a place for every node.
//!
//! Typed decoding would lose what `check` has to say: duplicate keys, a second document, numbers that are not read as
//! they look. So the events of the parser become a tree of nodes here, and [`crate::policy::schema`] reads that tree
//! twice, as the reference does: once for its keys, once for its values.
//!
//! An alias is the node of its anchor, not a copy of it: the tree is a graph without cycles, and what it would be when
//! written out is bounded by [`Bounds`].

mod build;
mod merge;
mod number;
mod resolve;

use std::borrow::Cow;

pub use self::build::read;
pub use self::merge::{Entry, bad_merges, entries};
pub use self::resolve::{TagError, Value, looks_octal, resolve};
use super::diagnostic::Place;

/// How large a document may be. The size of its text is bounded by whoever reads the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most nodes (scalars, lists, maps) of a document as written, about 15 a rule.
    pub nodes_max: usize,
    /// The most nodes that all aliases of a document may stand for. The reference server's reader stops at about
    /// 400,000; 32 bytes of a scalar weigh as much as a node.
    pub alias_nodes_max: usize,
    /// The most lists and maps within each other, aliases written out.
    pub depth_max: usize,
    /// The most descriptors within each other.
    pub descriptor_depth_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            nodes_max: 20_000_000,
            alias_nodes_max: 1_000_000,
            depth_max: 128,
            descriptor_depth_max: 32,
        }
    }
}

/// Names a node of its [`Document`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u32);

/// The first document of a text.
#[derive(Debug, Default)]
pub struct Document<'a> {
    nodes: Vec<Node<'a>>,
    /// The outermost node; none if the text has no document, or failed before it.
    pub root: Option<NodeId>,
    /// Where text begins that is not read, because it comes after the first document.
    pub rest: Option<Place>,
    /// Why reading stopped; what was read before stays in the tree.
    pub failure: Option<Failure>,
}

impl<'a> Document<'a> {
    /// The node `id` names.
    ///
    /// # Panics
    /// If `id` is of another document.
    pub fn node(&self, id: NodeId) -> &Node<'a> {
        &self.nodes[id.0 as usize]
    }

    /// All nodes as written, each once.
    pub fn nodes(&self) -> impl Iterator<Item = &Node<'a>> {
        self.nodes.iter()
    }
}

/// Text that is not YAML, or more of it than the bounds allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it was noticed.
    pub place: Place,
    /// What is wrong.
    pub text: String,
}

/// A part of a document.
#[derive(Debug)]
pub struct Node<'a> {
    /// Where it begins; for an alias, where its anchor's node begins.
    pub place: Place,
    /// What it is.
    pub kind: Kind<'a>,
    /// How many nodes it is when its aliases are written out. A file may have millions of nodes: it is small.
    weight: u32,
    /// How many lists and maps are within each other in it.
    height: u32,
}

/// What a [`Node`] is.
#[derive(Debug)]
pub enum Kind<'a> {
    /// A single value.
    Scalar(Scalar<'a>),
    /// Keys and values in the order of the file, duplicates and merge keys (`<<`) included.
    Map(Vec<(NodeId, NodeId)>),
    /// A list.
    Seq(Vec<NodeId>),
}

/// A single value, as written.
#[derive(Debug)]
pub struct Scalar<'a> {
    /// The text, without quotes and escapes.
    pub text: Cow<'a, str>,
    /// Whether it is neither quoted nor a block, so that its text may say its type.
    pub plain: bool,
    /// Its explicit tag.
    pub tag: Option<Tag>,
}

/// An explicit tag of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// `!!str`
    Str,
    /// `!!bool`
    Bool,
    /// `!!int`
    Int,
    /// `!!float`
    Float,
    /// `!!null`
    Null,
    /// `!!binary`
    Binary,
    /// `!!merge`
    Merge,
    /// Any other: the value stays text.
    Other,
}
