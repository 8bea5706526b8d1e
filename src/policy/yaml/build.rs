//! Parser events to nodes, within bounds, without recursion.

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, Span};

use super::{Bounds, Document, Failure, Kind, Node, NodeId, Scalar, Tag};
use crate::policy::diagnostic::{Place, Quoted};

/// The bytes of a scalar that weigh as much as a node, so that aliases cannot multiply a long text.
const WEIGHT_BYTES: usize = 32;

/// Reads the first document of `text`. What is wrong with it is in [`Document::failure`].
pub fn read<'a>(text: &'a str, bounds: &Bounds) -> Document<'a> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(failure) = control_character(text) {
        return Document {
            failure: Some(failure),
            ..Document::default()
        };
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_anchor_events = true;
    options.flow_nesting_limit = bounds.depth_max;
    options.block_nesting_limit = bounds.depth_max;
    let mut parser = Parser::new_from_str_with_options(text, options);

    let mut builder = Builder {
        text,
        bounds,
        nodes: Vec::new(),
        open: Vec::new(),
        anchors: Vec::new(),
        root: None,
        aliased: 0,
    };
    let failure = builder.first_document(&mut parser).err();
    while !builder.open.is_empty() {
        builder.close();
    }
    let rest = if failure.is_none() {
        text_after(&mut parser)
    } else {
        None
    };
    Document {
        nodes: builder.nodes,
        root: builder.root,
        rest,
        failure,
    }
}

type Events<'a> = Parser<'a, granit_parser::StrInput<'a>>;

/// The start of what follows the first document, if that is more than an empty document.
fn text_after(parser: &mut Events<'_>) -> Option<Place> {
    let mut start = None;
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => return None,
            Some(Ok((Event::DocumentStart(..), span))) => start = Some(place_of(span)),
            Some(Ok((Event::DocumentEnd, _))) => {}
            Some(Ok((Event::Scalar(..), span))) if span.is_empty() => {}
            Some(Ok((_, span))) => return start.or(Some(place_of(span))),
            Some(Err(error)) => return start.or(Some(place_at(error.marker()))),
        }
    }
}

struct Builder<'a, 'b> {
    text: &'a str,
    bounds: &'b Bounds,
    nodes: Vec<Node<'a>>,
    /// The lists and maps that are not complete yet, the innermost last.
    open: Vec<Open>,
    /// By the parser's number of the anchor; none while its node is not complete.
    anchors: Vec<Option<NodeId>>,
    root: Option<NodeId>,
    /// What all aliases so far stand for, in nodes.
    aliased: u64,
}

/// A list or map that is not complete.
struct Open {
    place: Place,
    anchor: usize,
    children: Vec<NodeId>,
    is_map: bool,
    weight: u32,
    height: u32,
}

impl<'a> Builder<'a, '_> {
    fn first_document(&mut self, parser: &mut Events<'a>) -> Result<(), Failure> {
        loop {
            let (event, span) = match parser.next_event() {
                None => return Ok(()),
                Some(Ok(next)) => next,
                Some(Err(error)) => {
                    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
                        return self.too_deep(place_at(error.marker()));
                    }
                    return fail(
                        place_at(error.marker()),
                        format!("yaml syntax error: {}", error.info()),
                    );
                }
            };
            let place = place_of(span);
            match event {
                Event::DocumentEnd | Event::StreamEnd => return Ok(()),
                Event::DocumentStart(_, Some(version)) if (version.major, version.minor) != (1, 1) => {
                    return fail(
                        place,
                        "incompatible yaml document: only version 1.1 can be declared".to_owned(),
                    );
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let plain = matches!(style, ScalarStyle::Plain);
                    // The parser calls an absent value `~`.
                    let absent = plain && text == "~" && span.slice(self.text) != Some("~");
                    let text = if absent { "".into() } else { text };
                    let weight = u32::try_from(1 + text.len() / WEIGHT_BYTES).unwrap_or(u32::MAX);
                    let scalar = Scalar {
                        text,
                        plain,
                        tag: tag.as_deref().map(tag_of),
                    };
                    let node = Node {
                        place,
                        kind: Kind::Scalar(scalar),
                        weight,
                        height: 0,
                    };
                    self.complete(node, anchor)?;
                }
                Event::SequenceStart(_, anchor, _) => self.start(place, anchor, false)?,
                Event::MappingStart(_, anchor, _) => self.start(place, anchor, true)?,
                Event::SequenceEnd | Event::MappingEnd => self.close(),
                Event::Anchor(_, name) if !name.bytes().all(is_anchor_byte) => {
                    return fail(
                        place,
                        format!(
                            "anchor {} has other characters than letters and digits",
                            Quoted(&name)
                        ),
                    );
                }
                Event::Alias(anchor) => self.alias(anchor, place, span)?,
                _ => {}
            }
        }
    }

    fn start(&mut self, place: Place, anchor: usize, is_map: bool) -> Result<(), Failure> {
        self.check_depth(place, 1)?;
        self.set_anchor(anchor, None);
        self.open.push(Open {
            place,
            anchor,
            children: Vec::new(),
            is_map,
            weight: 1,
            height: 1,
        });
        Ok(())
    }

    /// Completes the innermost list or map. A key whose value is missing, which only a failure leaves, is dropped.
    fn close(&mut self) {
        let Some(open) = self.open.pop() else { return };
        let kind = if open.is_map {
            Kind::Map(
                open.children
                    .chunks_exact(2)
                    .map(|pair| (pair[0], pair[1]))
                    .collect(),
            )
        } else {
            Kind::Seq(open.children)
        };
        let node = Node {
            place: open.place,
            kind,
            weight: open.weight,
            height: open.height,
        };
        let id = self.push(node);
        self.set_anchor(open.anchor, Some(id));
        self.attach(id);
    }

    fn complete(&mut self, node: Node<'a>, anchor: usize) -> Result<(), Failure> {
        // A list or map counts when it is complete, and its children count before it.
        let nodes = self.nodes.len() + self.open.len();
        if nodes >= self.bounds.nodes_max.min(u32::MAX as usize) {
            return fail(
                node.place,
                format!("more than {} yaml nodes", self.bounds.nodes_max),
            );
        }
        let id = self.push(node);
        self.set_anchor(anchor, Some(id));
        self.attach(id);
        Ok(())
    }

    fn alias(&mut self, anchor: usize, place: Place, span: Span) -> Result<(), Failure> {
        let name = span.slice(self.text).unwrap_or_default().trim_start_matches('*');
        let Some(id) = self.anchors.get(anchor).copied().flatten() else {
            return fail(place, format!("anchor {} contains itself", Quoted(name)));
        };
        let target = &self.nodes[id.0 as usize];
        let (weight, height) = (target.weight, target.height);
        self.aliased = self.aliased.saturating_add(weight.into());
        if self.aliased > self.bounds.alias_nodes_max as u64 {
            let max = self.bounds.alias_nodes_max;
            return fail(
                place,
                format!("excessive aliasing: aliases stand for more than {max} yaml nodes"),
            );
        }
        self.check_depth(place, height)?;
        self.attach(id);
        Ok(())
    }

    /// Refuses a node of `height` levels inside the open ones.
    fn check_depth(&self, place: Place, height: u32) -> Result<(), Failure> {
        if self.open.len() + height as usize > self.bounds.depth_max {
            return self.too_deep(place);
        }
        Ok(())
    }

    fn too_deep(&self, place: Place) -> Result<(), Failure> {
        fail(
            place,
            format!(
                "more than {} lists and maps within each other",
                self.bounds.depth_max
            ),
        )
    }

    fn push(&mut self, node: Node<'a>) -> NodeId {
        // `complete` keeps the number of nodes below the bound, and that below 2^32.
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        id
    }

    fn attach(&mut self, id: NodeId) {
        let node = &self.nodes[id.0 as usize];
        match self.open.last_mut() {
            Some(parent) => {
                parent.weight = parent.weight.saturating_add(node.weight);
                parent.height = parent.height.max(node.height + 1);
                parent.children.push(id);
            }
            None => self.root = Some(id),
        }
    }

    fn set_anchor(&mut self, anchor: usize, id: Option<NodeId>) {
        // The parser numbers the anchors 1, 2, …; 0 is none.
        if anchor > 0 {
            if self.anchors.len() <= anchor {
                self.anchors.resize(anchor + 1, None);
            }
            self.anchors[anchor] = id;
        }
    }
}

fn fail<T>(place: Place, text: String) -> Result<T, Failure> {
    Err(Failure { place, text })
}

/// YAML 1.1 knows fewer names than the parser takes.
fn is_anchor_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn place_of(span: Span) -> Place {
    place_at(&span.start)
}

fn place_at(marker: &granit_parser::Marker) -> Place {
    let bounded = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place {
        line: bounded(marker.line()).max(1),
        column: bounded(marker.col()).saturating_add(1),
    }
}

fn tag_of(tag: &granit_parser::Tag) -> Tag {
    match tag.suffix_in_namespace("tag:yaml.org,2002:").as_deref() {
        Some("str") => Tag::Str,
        Some("bool") => Tag::Bool,
        Some("int") => Tag::Int,
        Some("float") => Tag::Float,
        Some("null") => Tag::Null,
        Some("binary") => Tag::Binary,
        Some("merge") => Tag::Merge,
        _ => Tag::Other,
    }
}

/// The first character that the reference server's reader does not take.
fn control_character(text: &str) -> Option<Failure> {
    let allowed = |c: char| match c {
        '\t' | '\n' | '\r' | '\u{85}' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => !c.is_control(),
    };
    let (at, found) = text.char_indices().find(|&(_, c)| !allowed(c))?;
    let before = &text[..at];
    let line = 1 + before.bytes().filter(|&b| b == b'\n').count();
    let column = 1 + before.chars().rev().take_while(|&c| c != '\n').count();
    let bounded = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let place = Place {
        line: bounded(line),
        column: bounded(column),
    };
    let text = format!("control characters are not allowed: {}", found.escape_unicode());
    Some(Failure { place, text })
}
