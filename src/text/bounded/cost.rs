//! What an instruction of a template takes.

use minijinja::machinery::Instruction;
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::{Budget, Result};

/// What an element of a list or map takes, at most.
const ELEMENT_BYTES: u64 = 64;
/// Levels of lists and maps in each other: each takes native stack when it is printed, compared or dropped.
const MAX_DEPTH: usize = 64;

/// What takes memory or time, by what it depends on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    Concat,
    Add,
    Multiply,
    Replace,
    Join,
    JoinBy,
    Split,
    Pad,
    Print,
    Format,
    Map,
    /// A text that is not much longer than the operand.
    Text,
    Compare,
    In,
    /// Lists and maps are made.
    Build,
    /// A variable is set.
    Keep,
    Other,
}

impl Operation {
    pub(super) const ALL: [Self; 17] = [
        Self::Concat,
        Self::Add,
        Self::Multiply,
        Self::Replace,
        Self::Join,
        Self::JoinBy,
        Self::Split,
        Self::Pad,
        Self::Print,
        Self::Format,
        Self::Map,
        Self::Text,
        Self::Compare,
        Self::In,
        Self::Build,
        Self::Keep,
        Self::Other,
    ];

    /// The function that charges it; no template can name it.
    pub(super) fn function(self) -> &'static str {
        match self {
            Self::Concat => "charge ~",
            Self::Add => "charge +",
            Self::Multiply => "charge *",
            Self::Replace => "charge replace",
            Self::Join => "charge join",
            Self::JoinBy => "charge join by",
            Self::Split => "charge split",
            Self::Pad => "charge indent",
            Self::Print => "charge print",
            Self::Format => "charge format",
            Self::Map => "charge map",
            Self::Text => "charge text",
            Self::Compare => "charge ==",
            Self::In => "charge in",
            Self::Build => "charge []",
            Self::Keep => "charge set",
            Self::Other => "charge other",
        }
    }

    /// That of an instruction, with its number of operands; `None` where it takes no memory to speak of.
    pub(super) fn of(instruction: &Instruction<'_>) -> Result<Option<(Self, u16)>> {
        let pairs = |n: &usize| u16::try_from(2 * n).ok();
        let (operation, n_operands) = match instruction {
            Instruction::StringConcat => (Self::Concat, Some(2)),
            Instruction::Add => (Self::Add, Some(2)),
            Instruction::Mul => (Self::Multiply, Some(2)),
            Instruction::Eq
            | Instruction::Ne
            | Instruction::Gt
            | Instruction::Gte
            | Instruction::Lt
            | Instruction::Lte
            | Instruction::CompareAndPreserve(_) => (Self::Compare, Some(2)),
            Instruction::In => (Self::In, Some(2)),
            // An index counts the characters before it.
            Instruction::GetItem => (Self::Text, Some(2)),
            Instruction::Slice => (Self::Other, Some(4)),
            Instruction::BuildMap(n) | Instruction::BuildKwargs(n) => (Self::Build, pairs(n)),
            Instruction::BuildList(Some(n)) => (Self::Build, u16::try_from(*n).ok()),
            Instruction::MergeKwargs(n) => (Self::Other, u16::try_from(*n).ok()),
            Instruction::StoreLocal(_) => (Self::Keep, Some(1)),
            Instruction::SetAttr(_) => (Self::Keep, Some(2)),
            Instruction::CallFunction("range" | "dict" | "namespace" | "strftime_now" | "raise_exception", n) => {
                (Self::Other, *n)
            }
            Instruction::ApplyFilter("map", n, _) => (Self::Map, *n),
            Instruction::ApplyFilter(name, n, _) => (Self::filter(name), *n),
            Instruction::CallMethod(name, n) => match *name {
                "replace" => (Self::Replace, *n),
                "join" => (Self::JoinBy, *n),
                "ljust" | "rjust" | "center" | "zfill" | "expandtabs" => (Self::Pad, *n),
                "format" => (Self::Format, *n),
                "split" | "rsplit" | "splitlines" => (Self::Split, *n),
                "strip" | "lstrip" | "rstrip" | "removeprefix" | "removesuffix" | "startswith" | "endswith" | "find"
                | "rfind" | "count" | "upper" | "lower" | "title" | "capitalize" | "isdigit" | "isspace" | "isupper"
                | "islower" => (Self::Text, *n),
                _ => (Self::Other, *n),
            },
            Instruction::PerformTest("in", n, _) => (Self::In, *n),
            Instruction::PerformTest("lower" | "upper" | "startingwith" | "endingwith" | "containing", n, _) => (Self::Text, *n),
            Instruction::PerformTest(_, Some(2), _) => (Self::Compare, Some(2)),
            Instruction::PerformTest(_, n @ None, _) => (Self::Other, *n),
            _ => return Ok(None),
        };
        match n_operands {
            Some(n) => Ok(Some((operation, n))),
            None => {
                let what = "it unpacks arguments (*) in a filter, a test or a method, or is too long a list";
                Err(Error::new(ErrorKind::InvalidOperation, what))
            }
        }
    }

    fn filter(name: &str) -> Self {
        match name {
            "replace" => Self::Replace,
            "join" => Self::Join,
            "indent" | "batch" | "slice" => Self::Pad,
            "format" => Self::Format,
            "split" | "lines" => Self::Split,
            "string" | "tojson" | "urlencode" | "escape" | "e" => Self::Print,
            "trim" | "upper" | "lower" | "title" | "capitalize" | "safe" | "length" | "count" | "default" | "d" | "first"
            | "last" | "int" | "float" | "bool" | "abs" | "round" | "attr" => Self::Text,
            _ => Self::Other,
        }
    }

    /// Charges it to a budget: its operands as they are to be used.
    pub(super) fn charge(self, budget: &Budget, mut operands: Vec<Value>) -> Result<Vec<Value>> {
        budget.charge(self.cost(budget, &operands)?)?;
        if let (Self::Keep, Some(value)) = (self, operands.first_mut()) {
            // What was charged is its length.
            if is_lazy(value) {
                *value = value.try_iter()?.collect::<Vec<Value>>().into();
            }
            if operands.len() > 1 {
                weigh(budget, &operands[0], Weighed::Kept, 0)?;
            }
        }
        Ok(operands)
    }

    /// What it is about to take with these operands.
    fn cost(self, budget: &Budget, operands: &[Value]) -> Result<u64> {
        let text = |i: usize| operands.get(i).and_then(Value::as_str).unwrap_or("");
        let text_len = |i: usize| text(i).len() as u64;
        // As an argument by its place, or by the only name that such a number has.
        let number = |i: usize| {
            let value = operands.get(i).cloned().unwrap_or_default();
            let value = if value.kind() == ValueKind::Map { value.get_attr("width").unwrap_or_default() } else { value };
            u64::try_from(value).unwrap_or(0)
        };
        let first = operands.first().cloned().unwrap_or_default();
        let second = operands.get(1).cloned().unwrap_or_default();
        Ok(match self {
            Self::Join => {
                let separator = text_len(1);
                // A text is joined by its characters.
                let mut sum = text_len(0) * (separator + 4);
                if is_list(&first) {
                    for item in first.try_iter()? {
                        sum += budget.text_len(&item)? + separator + 1;
                        if sum > budget.left() {
                            break;
                        }
                    }
                }
                sum
            }
            // As a method it is the separator's.
            Self::JoinBy => Self::Join.cost(budget, &[second, first])?,
            Self::Concat => budget.text_len(&first)?.saturating_add(budget.text_len(&second)?),
            Self::Add => {
                let lists = [&first, &second].into_iter().filter(|value| is_list(value));
                text_len(0) + text_len(1) + lists.map(|list| count(budget, list)).sum::<Result<u64>>()? * ELEMENT_BYTES
            }
            Self::Multiply => {
                let sum = |value: &Value, times: u64| -> Result<u64> {
                    let n_bytes = match value.as_str() {
                        Some(text) => text.len() as u64,
                        None if is_list(value) => count(budget, value)?.saturating_mul(ELEMENT_BYTES),
                        None => 0,
                    };
                    Ok(n_bytes.saturating_mul(times))
                };
                sum(&first, number(1))?.max(sum(&second, number(0))?)
            }
            Self::Replace => {
                let (whole, from, to) = (text(0), text(1), text_len(2));
                let n = if from.is_empty() { whole.len() + 1 } else { whole.matches(from).count() } as u64;
                (whole.len() as u64).saturating_add(n.saturating_mul(to))
            }
            Self::Split => {
                // Without a separator it is split at every space or end of a line.
                let n_pieces = match (operands.len(), text(1)) {
                    (2.., "") | (..2, _) => text(0).matches(char::is_whitespace).count(),
                    (_, separator) => text(0).matches(separator).count(),
                };
                text_len(0) + (n_pieces as u64 + 1) * ELEMENT_BYTES
            }
            Self::Pad => {
                let n_lines = text(0).matches('\n').count() as u64 + 1;
                let kwargs = operands.last().filter(|value| value.kind() == ValueKind::Map);
                let named = |name: &str| kwargs.and_then(|map| map.get_attr(name).ok()).and_then(|n| u64::try_from(n).ok());
                let width = ["width", "count"].into_iter().filter_map(named).chain([number(1)]).max().unwrap_or(0);
                let elements = if is_list(&first) { count(budget, &first)?.saturating_add(width) } else { 0 };
                text_len(0).saturating_add(n_lines.saturating_mul(width)).saturating_add(elements.saturating_mul(ELEMENT_BYTES))
            }
            Self::Print => {
                let sum: Result<u64> = operands.iter().map(|value| budget.text_len(value)).sum();
                // Escapes take up to six bytes for one.
                sum?.saturating_mul(6)
            }
            Self::Format => {
                // The widths and precisions are numbers in the text.
                let numbers = text(0).split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
                let widths = numbers.fold(0u64, |sum, digits| sum.saturating_add(digits.parse().unwrap_or(u64::MAX)));
                // The same argument may be named many times.
                let n_places = text(0).matches(['%', '{']).count() as u64;
                // `*` takes the width from an argument.
                let given = operands.iter().filter_map(|value| u64::try_from(value.clone()).ok()).max().unwrap_or(0);
                let stars = (text(0).matches('*').count() as u64).saturating_mul(given);
                let nested = if text(0).contains('{') { n_places.saturating_mul(given) } else { 0 };
                let printed = Self::Print.cost(budget, operands)?.saturating_mul(n_places.max(1));
                printed.saturating_add(widths).saturating_add(stars).saturating_add(nested)
            }
            Self::Map => {
                let mut sum = Self::Other.cost(budget, operands)?;
                if is_list(&first) && !text(1).is_empty() {
                    let operation = Self::filter(text(1));
                    let mut operands = operands.to_vec();
                    operands.remove(1);
                    for item in first.try_iter()? {
                        operands[0] = item;
                        sum = sum.saturating_add(operation.cost(budget, &operands)?);
                        if sum > budget.left() {
                            break;
                        }
                    }
                }
                sum
            }
            Self::Text => text_len(0) + text_len(1),
            Self::Compare => match (first.as_str(), second.as_str()) {
                (Some(a), Some(b)) => a.len().min(b.len()) as u64,
                _ if is_container(&first) && is_container(&second) => {
                    weigh(budget, &first, Weighed::Read, 0)?.saturating_add(weigh(budget, &second, Weighed::Read, 0)?)
                }
                _ => 0,
            },
            Self::In => match (first.as_str(), second.as_str()) {
                (Some(a), Some(b)) => (a.len() + b.len()) as u64,
                (a, _) if is_list(&second) => {
                    let each = match a {
                        Some(text) => text.len() as u64,
                        None => weigh(budget, &first, Weighed::Read, 0)?,
                    };
                    count(budget, &second)?.saturating_mul(each.saturating_add(8))
                }
                _ => 0,
            },
            Self::Build => {
                let mut sum = 0u64;
                for value in operands {
                    sum = sum.saturating_add(ELEMENT_BYTES).saturating_add(weigh(budget, value, Weighed::Kept, 1)?);
                }
                sum
            }
            Self::Keep => {
                if is_lazy(&first) {
                    count(budget, &first)?.saturating_mul(ELEMENT_BYTES)
                } else {
                    0
                }
            }
            Self::Other => {
                let mut sum = 0u64;
                for value in operands {
                    let n = match value.as_str() {
                        Some(text) => text.len() as u64,
                        None if is_container(value) => count(budget, value)?,
                        None => 0,
                    };
                    sum = sum.saturating_add(n.saturating_mul(ELEMENT_BYTES));
                }
                sum
            }
        })
    }
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

fn is_container(value: &Value) -> bool {
    is_list(value) || value.kind() == ValueKind::Map
}

/// Whether a list is computed from others whenever it is read.
fn is_lazy(value: &Value) -> bool {
    is_list(value) && value.downcast_object_ref::<Vec<Value>>().is_none()
}

/// The elements of a list or map, as far as the budget could pay for them.
fn count(budget: &Budget, value: &Value) -> Result<u64> {
    match value.len() {
        Some(n) => Ok(n as u64),
        None => {
            let most = usize::try_from(budget.left() / ELEMENT_BYTES + 1).unwrap_or(usize::MAX);
            Ok(value.try_iter()?.take(most).count() as u64)
        }
    }
}

/// Why a value is weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weighed {
    /// It becomes a part of another; texts are shared.
    Kept,
    /// All of it is read.
    Read,
}

/// Bytes of everything that can be reached from a value, as often as it can be reached.
///
/// # Errors
/// More than the budget has, or too many levels; a namespace within another value, which could then contain itself.
fn weigh(budget: &Budget, value: &Value, why: Weighed, depth: usize) -> Result<u64> {
    let refused = |what: &str| Err(Error::new(ErrorKind::InvalidOperation, what.to_string()));
    if !is_container(value) {
        return Ok(if why == Weighed::Read { value.as_str().map_or(0, str::len) as u64 } else { 0 });
    }
    if why == Weighed::Kept && value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace")) {
        return refused("it puts a namespace into another value");
    }
    if depth > MAX_DEPTH {
        return refused("its lists and maps are nested too deeply");
    }
    let is_map = value.kind() == ValueKind::Map;
    let mut sum = 0u64;
    for item in value.try_iter()? {
        let inside = if is_map { &value.get_item(&item)? } else { &item };
        sum = sum.saturating_add(ELEMENT_BYTES).saturating_add(weigh(budget, inside, why, depth + 1)?);
        if sum > budget.left() {
            break;
        }
    }
    Ok(sum)
}
