// The importer: TorchScript archive in, graph dialect out.
#ifndef GALVATRON_IMPORT_IMPORT_H
#define GALVATRON_IMPORT_IMPORT_H

namespace galvatron {

/// Runs the galvatron-import tool and returns its exit code.
int runImporter(int argc, char **argv);

} // namespace galvatron

#endif // GALVATRON_IMPORT_IMPORT_H
