//! Writes down what each world imports and exports, in WIT's notation, so that the host can compare components with
//! it. The one source is the WIT in `wit/`.
#![expect(clippy::expect_used, reason = "a build script that cannot read the WIT must end the build")]

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use wit_parser::{Function, Handle, Resolve, Type, TypeDefKind, WorldItem, WorldKey};

fn main() {
    let wit = Path::new("../../wit");
    println!("cargo::rerun-if-changed={}", wit.display());
    let mut resolve = Resolve::default();
    for package in ["wasi/io.wit", "wasi/clocks.wit", "wasi/http.wit", "kernels", "policy", "endpoint"] {
        resolve.push_path(wit.join(package)).expect("the WIT packages parse");
    }
    let mut code = String::new();
    for (_, world) in &resolve.worlds {
        let name = world.name.to_uppercase().replace('-', "_");
        writeln!(code, "const {name}: WorldText = WorldText {{").expect("a string");
        interfaces(&resolve, &mut code, "imports", world.imports.iter());
        interfaces(&resolve, &mut code, "exports", world.exports.iter());
        writeln!(code, "}};").expect("a string");
    }
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("worlds.rs"), code).expect("OUT_DIR is writable");
}

fn interfaces<'a>(
    resolve: &Resolve,
    code: &mut String,
    field: &str,
    items: impl Iterator<Item = (&'a WorldKey, &'a WorldItem)>,
) {
    writeln!(code, "    {field}: &[").expect("a string");
    for (key, item) in items {
        let WorldItem::Interface { id, .. } = item else { continue };
        let name = resolve.name_world_key(key);
        writeln!(code, "        ({name:?}, &[").expect("a string");
        // `wasi:http` has its unit of time from there; the clock itself is given to nobody.
        let is_given = !name.starts_with("wasi:clocks/");
        for function in resolve.interfaces[*id].functions.values().filter(|_| is_given) {
            writeln!(code, "            ({:?}, {:?}),", function.name, signature(resolve, function))
                .expect("a string");
        }
        writeln!(code, "        ]),").expect("a string");
    }
    writeln!(code, "    ],").expect("a string");
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let params: Vec<_> =
        function.params.iter().map(|param| format!("{}: {}", param.name, ty(resolve, &param.ty))).collect();
    let result = function.result.as_ref().map(|result| format!(" -> {}", ty(resolve, result)));
    let kind = if function.kind.is_async() { "async func" } else { "func" };
    format!("{kind}({}){}", params.join(", "), result.unwrap_or_default())
}

/// The type with its names resolved, written as `contract/found.rs` writes the types of a component.
fn ty(resolve: &Resolve, of: &Type) -> String {
    let id = match of {
        Type::Bool => return "bool".to_owned(),
        Type::U8 => return "u8".to_owned(),
        Type::U16 => return "u16".to_owned(),
        Type::U32 => return "u32".to_owned(),
        Type::U64 => return "u64".to_owned(),
        Type::S8 => return "s8".to_owned(),
        Type::S16 => return "s16".to_owned(),
        Type::S32 => return "s32".to_owned(),
        Type::S64 => return "s64".to_owned(),
        Type::F32 => return "f32".to_owned(),
        Type::F64 => return "f64".to_owned(),
        Type::Char => return "char".to_owned(),
        Type::String => return "string".to_owned(),
        Type::ErrorContext => return "error-context".to_owned(),
        Type::Id(id) => id,
    };
    let definition = &resolve.types[*id];
    let optional = |of: &Option<Type>| of.as_ref().map_or_else(|| "_".to_owned(), |of| ty(resolve, of));
    let list = |parts: Vec<String>| parts.join(", ");
    match &definition.kind {
        TypeDefKind::Type(of) => ty(resolve, of),
        TypeDefKind::List(of) => format!("list<{}>", ty(resolve, of)),
        TypeDefKind::Option(of) => format!("option<{}>", ty(resolve, of)),
        TypeDefKind::Result(result) => format!("result<{}, {}>", optional(&result.ok), optional(&result.err)),
        TypeDefKind::Tuple(tuple) => {
            format!("tuple<{}>", list(tuple.types.iter().map(|of| ty(resolve, of)).collect()))
        }
        TypeDefKind::Record(record) => {
            let field = |field: &wit_parser::Field| format!("{}: {}", field.name, ty(resolve, &field.ty));
            format!("record {{ {} }}", list(record.fields.iter().map(field).collect()))
        }
        TypeDefKind::Variant(variant) => {
            let case = |case: &wit_parser::Case| match &case.ty {
                Some(of) => format!("{}({})", case.name, ty(resolve, of)),
                None => case.name.clone(),
            };
            format!("variant {{ {} }}", list(variant.cases.iter().map(case).collect()))
        }
        TypeDefKind::Enum(names) => {
            format!("enum {{ {} }}", list(names.cases.iter().map(|case| case.name.clone()).collect()))
        }
        TypeDefKind::Flags(flags) => {
            format!("flags {{ {} }}", list(flags.flags.iter().map(|flag| flag.name.clone()).collect()))
        }
        TypeDefKind::Resource => definition.name.clone().expect("a resource has a name"),
        TypeDefKind::Handle(Handle::Own(id)) => ty(resolve, &Type::Id(*id)),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", ty(resolve, &Type::Id(*id))),
        other => other.as_str().to_owned(),
    }
}
