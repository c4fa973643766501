//! The contract of a compiled component, read from its types.

use std::cell::Cell;

use wasmtime::Engine;
use wasmtime::component::{
    Component, ResourceType, Type,
    types::{ComponentFunc, ComponentItem},
};

use super::{Contract, Functions, Interfaces};

/// How many types a component's functions may be made of, nested ones counted wherever they stand: a small file can
/// nest a type in itself so that its text would fill the memory. The worlds of this host need a few hundred.
const TYPE_LIMIT: usize = 50_000;
/// Stands for what is not written out any more, so that the comparison fails and shows these words.
const TOO_LARGE: &str = "a type beyond the host's limit";

pub(super) fn contract(engine: &Engine, component: &Component) -> Contract {
    let types = component.component_type();
    let imports: Vec<_> = types.imports(engine).map(|(name, item)| (name.to_owned(), item.ty)).collect();
    let exports: Vec<_> = types.exports(engine).map(|(name, item)| (name.to_owned(), item.ty)).collect();
    let mut resources = Resources { names: Vec::new(), types_left: Cell::new(TYPE_LIMIT) };
    for (_, item) in imports.iter().chain(&exports) {
        resources.collect(engine, item);
    }
    Contract {
        imports: interfaces(engine, &imports, &resources),
        exports: interfaces(engine, &exports, &resources),
    }
}

fn interfaces(engine: &Engine, items: &[(String, ComponentItem)], resources: &Resources) -> Interfaces {
    let functions_of = |(name, item): &(String, ComponentItem)| {
        let functions = match item {
            ComponentItem::ComponentInstance(instance) => instance
                .exports(engine)
                .filter_map(|(name, item)| match item.ty {
                    ComponentItem::ComponentFunc(function) => {
                        Some((name.to_owned(), resources.function(&function)))
                    }
                    _ => None,
                })
                .collect(),
            ComponentItem::ComponentFunc(function) => {
                Functions::from([(name.clone(), resources.function(function))])
            }
            _ => Functions::new(),
        };
        (name.clone(), functions)
    };
    items.iter().map(functions_of).collect()
}

/// The names under which a component knows its resources; types alone do not carry them.
struct Resources {
    names: Vec<(ResourceType, String)>,
    /// How many more types are written out.
    types_left: Cell<usize>,
}

impl Resources {
    fn collect(&mut self, engine: &Engine, item: &ComponentItem) {
        if let ComponentItem::ComponentInstance(instance) = item {
            for (name, item) in instance.exports(engine) {
                if let ComponentItem::Resource(resource) = item.ty {
                    self.names.push((resource, name.to_owned()));
                }
            }
        }
    }

    fn name(&self, resource: &ResourceType) -> &str {
        self.names.iter().find(|(known, _)| known == resource).map_or("resource", |(_, name)| name)
    }

    fn function(&self, function: &ComponentFunc) -> String {
        let params: Vec<_> =
            function.params().map(|(name, ty)| format!("{name}: {}", self.ty(&ty))).collect();
        let results: Vec<_> = function.results().map(|ty| format!(" -> {}", self.ty(&ty))).collect();
        let kind = if function.async_() { "async func" } else { "func" };
        format!("{kind}({}){}", params.join(", "), results.concat())
    }

    fn ty(&self, ty: &Type) -> String {
        match self.types_left.get().checked_sub(1) {
            Some(left) => self.types_left.set(left),
            None => return TOO_LARGE.to_owned(),
        }
        let optional = |ty: Option<Type>| ty.map_or_else(|| "_".to_owned(), |ty| self.ty(&ty));
        match ty {
            Type::Bool => "bool".to_owned(),
            Type::S8 => "s8".to_owned(),
            Type::U8 => "u8".to_owned(),
            Type::S16 => "s16".to_owned(),
            Type::U16 => "u16".to_owned(),
            Type::S32 => "s32".to_owned(),
            Type::U32 => "u32".to_owned(),
            Type::S64 => "s64".to_owned(),
            Type::U64 => "u64".to_owned(),
            Type::Float32 => "f32".to_owned(),
            Type::Float64 => "f64".to_owned(),
            Type::Char => "char".to_owned(),
            Type::String => "string".to_owned(),
            Type::List(list) => format!("list<{}>", self.ty(&list.ty())),
            Type::Option(option) => format!("option<{}>", self.ty(&option.ty())),
            Type::Result(result) => format!("result<{}, {}>", optional(result.ok()), optional(result.err())),
            Type::Tuple(tuple) => {
                let parts: Vec<_> = tuple.types().map(|ty| self.ty(&ty)).collect();
                format!("tuple<{}>", parts.join(", "))
            }
            Type::Record(record) => {
                let fields: Vec<_> =
                    record.fields().map(|field| format!("{}: {}", field.name, self.ty(&field.ty))).collect();
                format!("record {{ {} }}", fields.join(", "))
            }
            Type::Variant(variant) => {
                let cases: Vec<_> = variant
                    .cases()
                    .map(|case| match &case.ty {
                        Some(ty) => format!("{}({})", case.name, self.ty(ty)),
                        None => case.name.to_owned(),
                    })
                    .collect();
                format!("variant {{ {} }}", cases.join(", "))
            }
            Type::Enum(names) => format!("enum {{ {} }}", names.names().collect::<Vec<_>>().join(", ")),
            Type::Flags(names) => format!("flags {{ {} }}", names.names().collect::<Vec<_>>().join(", ")),
            Type::Own(resource) => self.name(resource).to_owned(),
            Type::Borrow(resource) => format!("borrow<{}>", self.name(resource)),
            // No world of this host uses the rest, so the comparison fails and shows these words.
            _ => "a type that this host does not know".to_owned(),
        }
    }
}
