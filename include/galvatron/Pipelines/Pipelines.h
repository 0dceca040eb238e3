// Registration of everything that a tool of this project knows: dialects, passes, phases.
#ifndef GALVATRON_PIPELINES_PIPELINES_H
#define GALVATRON_PIPELINES_PIPELINES_H

namespace mlir {
class DialectRegistry;
} // namespace mlir

namespace galvatron {

/// Adds this project's dialects and the upstream ones that its programs use.
void registerDialects(mlir::DialectRegistry &registry);

/// Makes every pass and every phase known by its flag.
void registerPasses();

} // namespace galvatron

#endif // GALVATRON_PIPELINES_PIPELINES_H
