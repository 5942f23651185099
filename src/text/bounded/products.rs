//! Products of constants, which the compiler carries out before anything can be charged: `'x' * 100000000` is 100 MB in a program of one
//! instruction.

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Stmt};
use minijinja::{Error, ErrorKind};

/// Bytes that the products of a template's constants may take together.
const BYTES: usize = 1 << 20;

/// Fails where a template's products of constants are large.
pub(super) fn check(template: &Stmt<'_>) -> Result<(), Error> {
    Products { left: BYTES }.statement(template)
}

struct Products {
    left: usize,
}

impl Products {
    fn statements(&mut self, body: &[Stmt<'_>]) -> Result<(), Error> {
        body.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Result<(), Error> {
        match statement {
            Stmt::Template(s) => self.statements(&s.children),
            Stmt::EmitExpr(s) => self.expression(&s.expr),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => Ok(()),
            Stmt::ForLoop(s) => {
                self.expression(&s.iter)?;
                self.expressions(&s.filter_expr)?;
                self.statements(&s.body)?;
                self.statements(&s.else_body)
            }
            Stmt::IfCond(s) => {
                self.expression(&s.expr)?;
                self.statements(&s.true_body)?;
                self.statements(&s.false_body)
            }
            Stmt::WithBlock(s) => {
                s.assignments.iter().try_for_each(|(_, value)| self.expression(value))?;
                self.statements(&s.body)
            }
            Stmt::Set(s) => {
                self.expression(&s.target)?;
                self.expression(&s.expr)
            }
            Stmt::SetBlock(s) => {
                self.expressions(&s.filter)?;
                self.statements(&s.body)
            }
            Stmt::AutoEscape(s) => {
                self.expression(&s.enabled)?;
                self.statements(&s.body)
            }
            Stmt::FilterBlock(s) => {
                self.expression(&s.filter)?;
                self.statements(&s.body)
            }
            Stmt::Block(s) => self.statements(&s.body),
            Stmt::Import(s) => self.expression(&s.expr),
            Stmt::FromImport(s) => self.expression(&s.expr),
            Stmt::Extends(s) => self.expression(&s.name),
            Stmt::Include(s) => self.expression(&s.name),
            Stmt::Macro(s) => {
                self.expressions(&s.defaults)?;
                self.statements(&s.body)
            }
            Stmt::CallBlock(s) => {
                self.call(&s.call)?;
                self.expressions(&s.macro_decl.defaults)?;
                self.statements(&s.macro_decl.body)
            }
            Stmt::Do(s) => self.call(&s.call),
        }
    }

    fn expressions<'e, 's: 'e>(&mut self, all: impl IntoIterator<Item = &'e Expr<'s>>) -> Result<(), Error> {
        all.into_iter().try_for_each(|expression| self.expression(expression))
    }

    fn call(&mut self, call: &Call<'_>) -> Result<(), Error> {
        self.expression(&call.expr)?;
        self.arguments(&call.args)
    }

    fn arguments(&mut self, all: &[CallArg<'_>]) -> Result<(), Error> {
        all.iter().try_for_each(|argument| match argument {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) | CallArg::PosSplat(value) | CallArg::KwargSplat(value) => {
                self.expression(value)
            }
        })
    }

    fn expression(&mut self, expression: &Expr<'_>) -> Result<(), Error> {
        match expression {
            Expr::Var(_) | Expr::Const(_) => Ok(()),
            Expr::Slice(e) => {
                self.expression(&e.expr)?;
                [&e.start, &e.stop, &e.step].into_iter().try_for_each(|bound| self.expressions(bound))
            }
            Expr::UnaryOp(e) => self.expression(&e.expr),
            Expr::BinOp(e) => {
                // What is inside is known to be small before it is computed here.
                self.expression(&e.left)?;
                self.expression(&e.right)?;
                match e.op {
                    BinOpKind::Mul => self.product(&e.left, &e.right),
                    _ => Ok(()),
                }
            }
            Expr::Compare(e) => {
                self.expression(&e.expr)?;
                e.ops.iter().try_for_each(|operand| self.expression(&operand.expr))
            }
            Expr::IfExpr(e) => {
                self.expression(&e.test_expr)?;
                self.expression(&e.true_expr)?;
                self.expressions(&e.false_expr)
            }
            Expr::Filter(e) => {
                self.expressions(&e.expr)?;
                self.arguments(&e.args)
            }
            Expr::Test(e) => {
                self.expression(&e.expr)?;
                self.arguments(&e.args)
            }
            Expr::GetAttr(e) => self.expression(&e.expr),
            Expr::GetItem(e) => {
                self.expression(&e.expr)?;
                self.expression(&e.subscript_expr)
            }
            Expr::Call(e) => self.call(e),
            Expr::List(e) => self.expressions(&e.items),
            Expr::Map(e) => {
                self.expressions(&e.keys)?;
                self.expressions(&e.values)
            }
        }
    }

    fn product(&mut self, left: &Expr<'_>, right: &Expr<'_>) -> Result<(), Error> {
        let (Some(left), Some(right)) = (left.as_const(), right.as_const()) else { return Ok(()) };
        for (text, number) in [(&left, &right), (&right, &left)] {
            if let (Some(text), Ok(number)) = (text.as_str(), usize::try_from(number.clone())) {
                let n_bytes = text.len().saturating_mul(number);
                self.left = self.left.checked_sub(n_bytes).ok_or_else(|| {
                    Error::new(ErrorKind::InvalidOperation, format!("it repeats texts of its own to more than {BYTES} bytes"))
                })?;
            }
        }
        Ok(())
    }
}
