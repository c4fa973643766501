//! PTX read into a [`Module`].

use super::syntax::{
    Declaration, Function, Initialiser, Instruction, Module, Operand, Space, Statement, Type,
};
use super::token::{Kind, Token, tokens};

/// A text that is no PTX, or PTX that the simulator doesn't read.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("line {line} of the PTX: found {found}, expected {expected}")]
pub struct SyntaxError {
    line: usize,
    found: String,
    expected: &'static str,
}

/// Reads a module.
pub fn parse(text: &str) -> Result<Module, SyntaxError> {
    let mut reader = Reader { tokens: tokens(text), at: 0 };
    let mut module = Module::default();
    while reader.peek().is_some() {
        reader.top_level(&mut module)?;
    }
    Ok(module)
}

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

type Parsed<T> = Result<T, SyntaxError>;

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<Kind<'a>> {
        self.tokens.get(self.at).map(|token| token.kind)
    }

    fn peek_second(&self) -> Option<Kind<'a>> {
        self.tokens.get(self.at + 1).map(|token| token.kind)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |token| token.line)
    }

    fn wrong<T>(&self, expected: &'static str) -> Parsed<T> {
        let found = match self.peek() {
            None => "the end".to_string(),
            Some(Kind::Word(text) | Kind::Number(text) | Kind::Text(text)) => format!("`{text}`"),
            Some(Kind::Sign(sign)) => format!("`{sign}`"),
        };
        Err(SyntaxError { line: self.line(), found, expected })
    }

    fn takes(&mut self, sign: char) -> bool {
        let taken = self.peek() == Some(Kind::Sign(sign));
        self.at += usize::from(taken);
        taken
    }

    fn sign(&mut self, sign: char, expected: &'static str) -> Parsed<()> {
        if self.takes(sign) { Ok(()) } else { self.wrong(expected) }
    }

    fn word(&mut self, expected: &'static str) -> Parsed<&'a str> {
        match self.peek() {
            Some(Kind::Word(word)) => {
                self.at += 1;
                Ok(word)
            }
            _ => self.wrong(expected),
        }
    }

    fn directive(&mut self, name: &str) -> bool {
        let taken = self.peek() == Some(Kind::Word(name));
        self.at += usize::from(taken);
        taken
    }

    fn integer(&mut self, expected: &'static str) -> Parsed<i64> {
        let negative = self.takes('-');
        match self.peek() {
            Some(Kind::Number(text)) => match integer(text) {
                Some(value) => {
                    self.at += 1;
                    Ok(if negative { (value as i64).wrapping_neg() } else { value as i64 })
                }
                None => self.wrong(expected),
            },
            _ => self.wrong(expected),
        }
    }

    /// Goes over everything up to the sign, and over the sign.
    fn skip_past(&mut self, sign: char) {
        while let Some(kind) = self.peek() {
            self.at += 1;
            if kind == Kind::Sign(sign) {
                break;
            }
        }
    }

    fn skip_line(&mut self) {
        let line = self.line();
        while self.peek().is_some() && self.line() == line {
            self.at += 1;
        }
    }

    fn top_level(&mut self, module: &mut Module) -> Parsed<()> {
        match self.peek() {
            Some(Kind::Word(".version" | ".target" | ".address_size" | ".file" | ".loc")) => self.skip_line(),
            Some(Kind::Word(".pragma" | ".alias")) => self.skip_past(';'),
            Some(Kind::Word(".section")) => self.skip_past('}'),
            Some(Kind::Word(".visible" | ".extern" | ".weak" | ".common")) => self.at += 1,
            Some(Kind::Word(".entry" | ".func")) => module.functions.push(self.function()?),
            Some(Kind::Word(word)) => match space(word) {
                Some(space) => {
                    self.at += 1;
                    module.variables.append(&mut self.variables(space)?);
                }
                None => return self.wrong("a directive of a module"),
            },
            _ => return self.wrong("a directive of a module"),
        }
        Ok(())
    }

    fn function(&mut self) -> Parsed<Function> {
        let is_kernel = self.word(".entry or .func")? == ".entry";
        let results = if self.peek() == Some(Kind::Sign('(')) { self.parameters()? } else { Vec::new() };
        let name = self.word("a function's name")?.to_string();
        let parameters = if self.peek() == Some(Kind::Sign('(')) { self.parameters()? } else { Vec::new() };
        let mut function = Function { name, is_kernel, results, parameters, max_threads: None, body: None };
        loop {
            match self.peek() {
                Some(Kind::Sign('{')) => {
                    function.body = Some(self.body()?);
                    return Ok(function);
                }
                Some(Kind::Sign(';')) => {
                    self.at += 1;
                    return Ok(function);
                }
                Some(Kind::Word(".maxntid" | ".reqntid")) => {
                    self.at += 1;
                    let mut threads = self.integer("a number of threads")?;
                    while self.takes(',') {
                        threads *= self.integer("a number of threads")?;
                    }
                    function.max_threads = Some(threads as u32);
                }
                Some(Kind::Word(".minnctapersm" | ".maxnreg" | ".noreturn" | ".pragma")) => {
                    self.at += 1;
                    while matches!(self.peek(), Some(Kind::Number(_) | Kind::Text(_) | Kind::Sign(','))) {
                        self.at += 1;
                    }
                }
                _ => return self.wrong("a directive or the body of a function"),
            }
        }
    }

    fn parameters(&mut self) -> Parsed<Vec<Declaration>> {
        self.sign('(', "`(`")?;
        let mut found = Vec::new();
        while !self.takes(')') {
            if !self.directive(".param") && !self.directive(".reg") {
                return self.wrong("`.param`");
            }
            found.push(self.variable(Space::Param)?);
            self.takes(',');
        }
        Ok(found)
    }

    fn variables(&mut self, space: Space) -> Parsed<Vec<Declaration>> {
        let mut found = vec![self.variable(space)?];
        while self.takes(',') {
            let first = found[0].clone();
            let mut next = self.named(first.space, first.element, first.align)?;
            next.align = first.align;
            found.push(next);
        }
        self.sign(';', "`;` after a variable")?;
        Ok(found)
    }

    fn variable(&mut self, space: Space) -> Parsed<Declaration> {
        let (mut align, mut element, mut lanes) = (None, None, 1);
        while let Some(Kind::Word(word)) = self.peek() {
            match word {
                ".align" => {
                    self.at += 1;
                    let value = self.integer("an alignment")? as usize;
                    // That of the memory pointed to follows `.ptr` and doesn't concern the parameter.
                    align = align.or(Some(value));
                    continue;
                }
                ".ptr" => {
                    align = align.or(element.map(Type::bytes));
                }
                ".v2" => lanes = 2,
                ".v4" => lanes = 4,
                ".attribute" => {
                    self.at += 1;
                    self.skip_past(')');
                    continue;
                }
                _ => match word.strip_prefix('.') {
                    Some(name) => element = element.or(Type::named(name)),
                    None => break,
                },
            }
            self.at += 1;
        }
        let Some(element) = element else { return self.wrong("the type of a variable") };
        let mut found = self.named(space, element, align.unwrap_or(element.bytes() * lanes))?;
        found.bytes = found.bytes.map(|bytes| bytes * lanes);
        Ok(found)
    }

    fn named(&mut self, space: Space, element: Type, align: usize) -> Parsed<Declaration> {
        let name = self.word("a variable's name")?.to_string();
        let mut bytes = Some(element.bytes());
        while self.takes('[') {
            if self.takes(']') {
                bytes = None;
                continue;
            }
            let count = self.integer("a number of elements")? as usize;
            bytes = bytes.map(|bytes| bytes * count);
            self.sign(']', "`]`")?;
        }
        let mut initialisers = Vec::new();
        if self.takes('=') {
            self.initialiser(&mut initialisers)?;
            // The size of an array may follow from its values.
            bytes = bytes.or(Some(initialisers.len() * element.bytes()));
        }
        Ok(Declaration { space, name, element, bytes, align, initialisers })
    }

    fn initialiser(&mut self, into: &mut Vec<Initialiser>) -> Parsed<()> {
        if self.takes('{') {
            while !self.takes('}') {
                self.initialiser(into)?;
                self.takes(',');
            }
            return Ok(());
        }
        into.push(match self.operand()? {
            Operand::Integer(bits) | Operand::Double(bits) => Initialiser::Bits(bits),
            Operand::Single(bits) => Initialiser::Bits(bits.into()),
            Operand::Name(name) if name == "generic" => {
                self.sign('(', "`(`")?;
                let inner = self.word("a variable's name")?.to_string();
                self.sign(')', "`)`")?;
                let offset = if self.takes('+') { self.integer("an offset")? } else { 0 };
                Initialiser::Address(inner, offset)
            }
            Operand::Name(name) => {
                let offset = if self.takes('+') { self.integer("an offset")? } else { 0 };
                Initialiser::Address(name, offset)
            }
            _ => return self.wrong("a first value"),
        });
        Ok(())
    }

    fn body(&mut self) -> Parsed<Vec<Statement>> {
        self.sign('{', "`{`")?;
        let (mut depth, mut found) = (0, Vec::new());
        loop {
            if self.takes('{') {
                depth += 1;
                found.push(Statement::Open);
            } else if self.takes('}') {
                if depth == 0 {
                    return Ok(found);
                }
                depth -= 1;
                found.push(Statement::Close);
            } else if !self.takes(';') {
                self.statement(&mut found)?;
            }
        }
    }

    fn statement(&mut self, into: &mut Vec<Statement>) -> Parsed<()> {
        if let (Some(Kind::Word(label)), Some(Kind::Sign(':'))) = (self.peek(), self.peek_second()) {
            self.at += 2;
            if self.directive(".branchtargets") {
                let mut labels = vec![self.word("a label")?.to_string()];
                while self.takes(',') {
                    labels.push(self.word("a label")?.to_string());
                }
                into.push(Statement::Targets(label.to_string(), labels));
                return self.sign(';', "`;`");
            }
            into.push(Statement::Label(label.to_string()));
            return Ok(());
        }
        match self.peek() {
            Some(Kind::Word(".reg")) => self.registers(into),
            Some(Kind::Word(".loc" | ".file")) => {
                self.skip_line();
                Ok(())
            }
            Some(Kind::Word(".pragma")) => {
                self.skip_past(';');
                Ok(())
            }
            Some(Kind::Word(word)) if word.starts_with('.') => match space(word) {
                Some(space) => {
                    self.at += 1;
                    into.extend(self.variables(space)?.into_iter().map(Statement::Variable));
                    Ok(())
                }
                None => self.wrong("a statement"),
            },
            Some(Kind::Word(_) | Kind::Sign('@')) => {
                let instruction = self.instruction()?;
                into.push(Statement::Instruction(instruction));
                Ok(())
            }
            _ => self.wrong("a statement"),
        }
    }

    fn registers(&mut self, into: &mut Vec<Statement>) -> Parsed<()> {
        self.at += 1;
        let Some(kind) = self.word("a type")?.strip_prefix('.').and_then(Type::named) else {
            return self.wrong("a register's type before this");
        };
        loop {
            let name = self.word("a register's name")?.to_string();
            let mut count = None;
            if self.takes('<') {
                count = Some(self.integer("a number of registers")? as usize);
                self.sign('>', "`>`")?;
            }
            into.push(Statement::Registers(kind, name, count));
            if !self.takes(',') {
                return self.sign(';', "`;` after registers");
            }
        }
    }

    fn instruction(&mut self) -> Parsed<Instruction> {
        let mut guard = None;
        if self.takes('@') {
            let negated = self.takes('!');
            guard = Some((self.word("a predicate")?.to_string(), negated));
        }
        let opcode = self.word("an opcode")?.split('.').map(str::to_string).collect();
        let mut operands = Vec::new();
        while !self.takes(';') {
            let operand = self.operand()?;
            operands.push(operand);
            if !self.takes(',') && self.peek() != Some(Kind::Sign(';')) {
                return self.wrong("`,` or `;` after an operand");
            }
        }
        Ok(Instruction { guard, opcode, operands })
    }

    fn operand(&mut self) -> Parsed<Operand> {
        let first = match self.peek() {
            Some(Kind::Sign('{')) => Operand::Vector(self.list('{', '}')?),
            Some(Kind::Sign('(')) => Operand::Arguments(self.list('(', ')')?),
            Some(Kind::Sign('[')) => self.address()?,
            Some(Kind::Sign('!')) => {
                self.at += 1;
                Operand::Not(self.word("a predicate")?.to_string())
            }
            Some(Kind::Sign('-')) => {
                self.at += 1;
                match self.number()? {
                    Operand::Integer(value) => Operand::Integer(value.wrapping_neg()),
                    other => other,
                }
            }
            Some(Kind::Number(_)) => self.number()?,
            Some(Kind::Word(word)) => {
                self.at += 1;
                Operand::Name(word.to_string())
            }
            _ => return self.wrong("an operand"),
        };
        if self.takes('|') {
            return Ok(Operand::Pair(Box::new(first), Box::new(self.operand()?)));
        }
        Ok(first)
    }

    fn list(&mut self, open: char, close: char) -> Parsed<Vec<Operand>> {
        self.sign(open, "a list")?;
        let mut found = Vec::new();
        while !self.takes(close) {
            let operand = self.operand()?;
            found.push(operand);
            self.takes(',');
        }
        Ok(found)
    }

    fn address(&mut self) -> Parsed<Operand> {
        self.sign('[', "`[`")?;
        let mut base = None;
        if let Some(Kind::Word(word)) = self.peek() {
            self.at += 1;
            base = Some(word.to_string());
        }
        let signed = base.is_none() || self.takes('+') || self.peek() == Some(Kind::Sign('-'));
        let offset = if signed { self.integer("an offset")? } else { 0 };
        self.sign(']', "`]`")?;
        Ok(Operand::Address(base, offset))
    }

    fn number(&mut self) -> Parsed<Operand> {
        let Some(Kind::Number(text)) = self.peek() else { return self.wrong("a number") };
        let prefix = text.get(..2).unwrap_or("");
        let found = match prefix {
            "0f" | "0F" => u32::from_str_radix(&text[2..], 16).ok().map(Operand::Single),
            "0d" | "0D" => u64::from_str_radix(&text[2..], 16).ok().map(Operand::Double),
            _ if text.contains('.') => text.parse::<f64>().ok().map(|value| Operand::Double(value.to_bits())),
            _ => integer(text).map(Operand::Integer),
        };
        match found {
            Some(operand) => {
                self.at += 1;
                Ok(operand)
            }
            None => self.wrong("a number"),
        }
    }
}

fn integer(text: &str) -> Option<u64> {
    let text = text.strip_suffix(['U', 'u']).unwrap_or(text);
    if let Some(digits) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok();
    }
    if let Some(digits) = text.strip_prefix("0b") {
        return u64::from_str_radix(digits, 2).ok();
    }
    text.parse().ok()
}

fn space(word: &str) -> Option<Space> {
    Some(match word {
        ".global" => Space::Global,
        ".const" => Space::Const,
        ".shared" => Space::Shared,
        ".local" => Space::Local,
        ".param" => Space::Param,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_sign_is_named_with_its_line() {
        let wrong = parse(".version 8.0\n.visible .entry k() { add.s32 %r1 %r2; }").unwrap_err();
        assert_eq!(wrong.to_string(), "line 2 of the PTX: found `%r2`, expected `,` or `;` after an operand");
    }

    #[test]
    fn parameters_keep_their_own_alignment() {
        let text = ".visible .entry k(.param .u64 .ptr .global .align 16 a, .param .align 8 .b8 b[24]) .maxntid 128, 1, 1 { ret; }";
        let module = parse(text).unwrap();
        let kernel = &module.functions[0];
        assert_eq!(kernel.max_threads, Some(128));
        let sizes: Vec<_> = kernel.parameters.iter().map(|each| (each.bytes, each.align)).collect();
        assert_eq!(sizes, [(Some(8), 8), (Some(24), 8)]);
    }

    #[test]
    fn variables_have_first_values() {
        let module =
            parse(".const .align 4 .b8 t[4] = {1, 2, 0xff, 4};\n.extern .shared .align 16 .b8 s[];").unwrap();
        assert_eq!(module.variables[0].initialisers[2], Initialiser::Bits(255));
        assert_eq!(module.variables[1].bytes, None);
    }
}
