//! `docs/wit.md`: every interface, type and function of the WIT packages with its documentation.

use std::fmt::Write as _;
use std::path::Path;

use wit_parser::{
    Docs, Function, FunctionKind, Handle, Resolve, Type, TypeDef, TypeDefKind, TypeId, WorldItem,
};

const HEAD: &str = "\
# The component interfaces

What a component may import and what it exports, from the packages in `wit/`. Where a name of another interface is used,
it means what it says there.
";

#[test]
fn the_reference_is_what_the_wit_says() {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut resolve = Resolve::default();
    for package in ["wasi/io.wit", "wasi/clocks.wit", "wasi/http.wit", "kernels", "policy", "endpoint"] {
        resolve.push_path(wit.join(package)).unwrap();
    }
    let mut page = HEAD.to_owned();
    // The standard's own pages document it.
    for (_, package) in resolve.packages.iter().filter(|(_, package)| package.name.namespace != "wasi") {
        write!(page, "\n## {}\n\n{}", package.name, text(&package.docs)).unwrap();
        for id in package.worlds.values() {
            let world = &resolve.worlds[*id];
            write!(page, "\n### World {}\n\n{}\n", world.name, text(&world.docs)).unwrap();
            for (what, items) in [("imports", &world.imports), ("exports", &world.exports)] {
                let interfaces = items.iter().filter(|(_, item)| matches!(item, WorldItem::Interface { .. }));
                let names = interfaces.map(|(key, _)| resolve.name_world_key(key));
                let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
                writeln!(page, "It {what} {}.", names.join(", ")).unwrap();
            }
        }
        for (name, id) in &package.interfaces {
            let interface = &resolve.interfaces[*id];
            write!(page, "\n### {name}\n\n{}", text(&interface.docs)).unwrap();
            for id in interface.types.values() {
                page += &of_type(&resolve, *id, interface.functions.values());
            }
            for function in interface.functions.values().filter(|function| !is_method(function)) {
                page += &of_function(&resolve, function);
            }
        }
    }
    super::check("wit.md", &page);
}

fn of_type<'a>(resolve: &Resolve, id: TypeId, functions: impl Iterator<Item = &'a Function>) -> String {
    let definition = &resolve.types[id];
    let name = definition.name.as_deref().unwrap();
    let kind = definition.kind.as_str();
    if let TypeDefKind::Type(Type::Id(_)) = definition.kind {
        // A `use` of another interface's type.
        return String::new();
    }
    let mut page = format!("\n#### {kind} {name}\n\n{}", text(&definition.docs));
    let cases = cases(resolve, definition);
    if !cases.is_empty() {
        page += "\n";
    }
    for (case, docs) in cases {
        page += &format!("- `{case}`: {}", one_line(docs));
    }
    for function in functions.filter(|function| is_method_of(function, id)) {
        page += &of_function(resolve, function);
    }
    page
}

/// The parts of a type, each with its documentation.
fn cases<'a>(resolve: &Resolve, definition: &'a TypeDef) -> Vec<(String, &'a Docs)> {
    match &definition.kind {
        TypeDefKind::Record(record) => {
            let field = |field: &'a wit_parser::Field| {
                (format!("{}: {}", field.name, ty(resolve, &field.ty)), &field.docs)
            };
            record.fields.iter().map(field).collect()
        }
        TypeDefKind::Enum(of) => of.cases.iter().map(|case| (case.name.clone(), &case.docs)).collect(),
        TypeDefKind::Variant(variant) => {
            let name = |case: &wit_parser::Case| match &case.ty {
                Some(of) => format!("{}({})", case.name, ty(resolve, of)),
                None => case.name.clone(),
            };
            variant.cases.iter().map(|case| (name(case), &case.docs)).collect()
        }
        _ => Vec::new(),
    }
}

fn of_function(resolve: &Resolve, function: &Function) -> String {
    let is_self = |name: &str| name == "self" && is_method(function);
    let params = function.params.iter().filter(|param| !is_self(&param.name));
    let params: Vec<String> =
        params.map(|param| format!("{}: {}", param.name, ty(resolve, &param.ty))).collect();
    let result = function.result.as_ref().map(|of| format!(" -> {}", ty(resolve, of))).unwrap_or_default();
    let place = match function.kind {
        FunctionKind::Method(id) => format!("{}.", resolve.types[id].name.as_deref().unwrap()),
        FunctionKind::Static(id) => format!("static {}.", resolve.types[id].name.as_deref().unwrap()),
        _ => String::new(),
    };
    format!("\n`{place}{}({}){result}`\n\n{}", function.item_name(), params.join(", "), text(&function.docs))
}

const fn is_method(function: &Function) -> bool {
    !matches!(function.kind, FunctionKind::Freestanding)
}

fn is_method_of(function: &Function, of: TypeId) -> bool {
    matches!(function.kind, FunctionKind::Method(id) | FunctionKind::Static(id) if id == of)
}

/// A type as the WIT writes it.
fn ty(resolve: &Resolve, of: &Type) -> String {
    let Type::Id(id) = of else { return primitive(of).to_owned() };
    let definition = &resolve.types[*id];
    if let Some(name) = &definition.name {
        return name.clone();
    }
    let optional = |of: &Option<Type>| of.as_ref().map_or_else(|| "_".to_owned(), |of| ty(resolve, of));
    match &definition.kind {
        TypeDefKind::List(of) => format!("list<{}>", ty(resolve, of)),
        TypeDefKind::Option(of) => format!("option<{}>", ty(resolve, of)),
        TypeDefKind::Result(result) if result.err.is_none() => format!("result<{}>", optional(&result.ok)),
        TypeDefKind::Result(result) => format!("result<{}, {}>", optional(&result.ok), optional(&result.err)),
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<String> = tuple.types.iter().map(|of| ty(resolve, of)).collect();
            format!("tuple<{}>", types.join(", "))
        }
        TypeDefKind::Handle(Handle::Own(id)) => ty(resolve, &Type::Id(*id)),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", ty(resolve, &Type::Id(*id))),
        other => panic!("{} is not written in the reference yet", other.as_str()),
    }
}

fn primitive(of: &Type) -> &'static str {
    match of {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(_) => unreachable!("a name"),
    }
}

/// Every item must have documentation.
fn text(docs: &Docs) -> String {
    let contents = docs.contents.as_deref().unwrap_or_else(|| panic!("an item of the WIT is not documented"));
    format!("{}\n", contents.trim())
}

fn one_line(docs: &Docs) -> String {
    text(docs).lines().collect::<Vec<_>>().join(" ") + "\n"
}
