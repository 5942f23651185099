//! Runs Jinja templates so that a hostile one ends, in steps and in bytes.
//!
//! The engine bounds the instructions of a run ("fuel"), but neither its output nor the strings it makes on the way: forty times
//! `{% set s = s ~ s %}` is a terabyte for a hundred instructions, and in WebAssembly a failed allocation is the end of the worker. It has no
//! hook for that either, so the compiled program is changed here before it runs: an instruction that can make something large, or read
//! something large again and again, jumps to the program's end, where what it is about to take is charged to a budget first.
//!
//! ```text
//!      …                          end: Jump stop              the program itself ends here
//!  i:  StringConcat     ─▶   i: Jump a        a:  CallFunction "charge ~", 2   ▸ [right, left], or an error
//!      …                          …               UnpackList 2
//!                                                 StringConcat
//!                                                 Jump i + 1
//! ```
//!
//! * Text that stands in the template itself is emitted as a constant likewise, so that all output, captured or not, goes through the
//!   one formatter, which counts it.
//! * A list or map is charged for everything that can be reached from it, counted as often as it can be reached: so no value that exists
//!   takes longer to print or compare than the budget allows. Its depth is limited, for values are dropped and printed recursively;
//!   lists that are computed lazily from others are written out where they are kept in a variable, so that those have no depth either.
//! * Products of constants are the compiler's own; [`products`] looks at those.

mod cost;
mod products;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::machinery::{CodeGenerator, Instruction, Instructions, Vm, WhitespaceConfig, make_string_output, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State};

use cost::Operation;

/// Instructions a run may take, those that charge it included. The longest known templates take some thousands per message.
const FUEL: u64 = 20_000_000;
/// Bytes that all texts and lists a run makes may take together, whatever it is given.
const LEAST_BYTES: u64 = 64 << 20;
/// Bytes that it may take for each byte of the conversation. What was freed again counts too, for the engine does not tell: a template that
/// appends hundreds of messages to one text, part by part, copies it thousands of times.
const BYTES_PER_BYTE: u64 = 256;
/// Bytes that no run may take more than.
const MOST_BYTES: u64 = 256 << 20;

type Result<T> = std::result::Result<T, Error>;

/// The cause of an error: that a run takes too much memory.
#[derive(Debug)]
struct TooMuch;

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("too much memory")
    }
}

impl std::error::Error for TooMuch {}

/// Whether an error says that a run takes too many steps or too much memory.
pub(super) fn is_too_much(error: &Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        let out_of_fuel = inner.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel);
        if out_of_fuel || inner.is::<TooMuch>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Bytes that a run may still take.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Arc<AtomicU64>,
    all: u64,
}

impl Budget {
    fn new(all: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(all)), all }
    }

    /// That of a run over these values.
    fn of(values: &Value) -> Self {
        let given = Self::new(MOST_BYTES).text_len(values).unwrap_or(MOST_BYTES);
        Self::new(given.saturating_mul(BYTES_PER_BYTE).saturating_add(LEAST_BYTES).min(MOST_BYTES))
    }

    fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes bytes from it.
    pub(super) fn charge(&self, n_bytes: u64) -> Result<()> {
        match self.left().checked_sub(n_bytes) {
            Some(left) => {
                self.left.store(left, Ordering::Relaxed);
                Ok(())
            }
            None => {
                let what = format!("it makes more than {} bytes of text and lists", self.all);
                Err(Error::new(ErrorKind::InvalidOperation, what).with_source(TooMuch))
            }
        }
    }

    /// Bytes that a value takes as text; fails beyond what is left, and does not go on for long then.
    fn text_len(&self, value: &Value) -> Result<u64> {
        match value.as_str() {
            Some(text) => Ok(text.len() as u64),
            None => {
                let mut counted = Counted { budget: self, n_bytes: 0, out: None };
                // The formatter of a value has no errors of its own.
                let _ = write!(counted, "{value}");
                let n_bytes = counted.n_bytes;
                if n_bytes > self.left() { self.charge(n_bytes).map(|()| 0) } else { Ok(n_bytes) }
            }
        }
    }
}

/// Counts what is written, and ends where the budget does.
struct Counted<'a, 'o> {
    budget: &'a Budget,
    n_bytes: u64,
    out: Option<&'a mut Output<'o>>,
}

impl std::fmt::Write for Counted<'_, '_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.n_bytes += text.len() as u64;
        if self.n_bytes > self.budget.left() {
            return Err(std::fmt::Error);
        }
        self.out.as_mut().map_or(Ok(()), |out| out.write_str(text))
    }
}

/// Lets the instructions of a program charge what they take.
fn bound(program: &mut Instructions<'_>) -> Result<()> {
    let mut n = 0;
    while program.get(n).is_some() {
        n += 1;
    }
    program.add(Instruction::Jump(0));
    for i in 0..n {
        let Some(instruction) = program.get(i).cloned() else { break };
        let at = if let Instruction::EmitRaw(text) = instruction {
            let at = program.add(Instruction::LoadConst(Value::from(text)));
            program.add(Instruction::Emit);
            at
        } else if let Some((operation, n_operands)) = Operation::of(&instruction)? {
            let at = program.add(Instruction::CallFunction(operation.function(), Some(n_operands)));
            program.add(Instruction::UnpackList(n_operands.into()));
            program.add(instruction);
            at
        } else {
            continue;
        };
        program.add(Instruction::Jump(i + 1));
        if let Some(instruction) = program.get_mut(i) {
            *instruction = Instruction::Jump(at);
        }
    }
    let end = program.add(Instruction::Jump(0)) + 1;
    for stop in [n, end - 1] {
        if let Some(instruction) = program.get_mut(stop) {
            *instruction = Instruction::Jump(end);
        }
    }
    Ok(())
}

/// What a template, with these values, becomes in an environment, whose formatter and fuel are set here; `with_budget` adds what
/// takes memory by itself.
///
/// # Errors
/// What is wrong with the template, or that it takes too many steps or bytes.
pub(super) fn render(
    mut environment: Environment<'_>,
    source: &str,
    values: Value,
    with_budget: impl FnOnce(&mut Environment<'_>, &Budget),
) -> Result<String> {
    let budget = Budget::of(&values);
    environment.set_fuel(Some(FUEL));
    // Both are for whoever writes a template: they print all variables, or a value over many lines.
    environment.add_function("debug", |_: Rest<Value>| "");
    environment.remove_filter("pprint");
    let counting = budget.clone();
    environment.set_formatter(move |out: &mut Output, _: &State, value: &Value| {
        let mut counted = Counted { budget: &counting, n_bytes: 0, out: Some(out) };
        let written = write!(counted, "{value}");
        let n_bytes = counted.n_bytes;
        counting.charge(n_bytes)?;
        written.map_err(Error::from)
    });
    for operation in Operation::ALL {
        let budget = budget.clone();
        // Unpacking a list leaves its first element on top.
        let charge = move |operands: Rest<Value>| -> Result<Value> {
            Ok(operation.charge(&budget, operands.0)?.into_iter().rev().collect())
        };
        environment.add_function(operation.function(), charge);
    }
    with_budget(&mut environment, &budget);
    let (program, blocks) = compile(source)?;
    let mut out = String::new();
    Vm::new(&environment).eval(&program, values, &blocks, &mut make_string_output(&mut out), AutoEscape::None)?;
    Ok(out)
}

type Program<'s> = (Instructions<'s>, std::collections::BTreeMap<&'s str, Instructions<'s>>);

fn compile(source: &str) -> Result<Program<'_>> {
    // As transformers sets up Jinja2.
    let spaces = WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };
    let syntax_tree = parse(source, "<string>", SyntaxConfig, spaces)?;
    products::check(&syntax_tree)?;
    let mut generator = CodeGenerator::new("<string>", source);
    generator.compile_stmt(&syntax_tree);
    let (mut program, mut blocks) = generator.finish();
    bound(&mut program)?;
    blocks.values_mut().try_for_each(bound)?;
    Ok((program, blocks))
}

/// Checks a template's syntax.
///
/// # Errors
/// What is wrong with it and where.
pub(super) fn check(source: &str) -> Result<()> {
    compile(source).map(drop)
}
