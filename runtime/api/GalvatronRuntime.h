// The C ABI between compiled stages and the runtime. Functions are listed once, in Functions.def.
#ifndef GALVATRON_RUNTIME_API_GALVATRONRUNTIME_H
#define GALVATRON_RUNTIME_API_GALVATRONRUNTIME_H

#ifdef __cplusplus
extern "C" {
#endif

/// Version of this interface; a stage refuses a runtime of another one.
int gvrt_abi_version(void);

#ifdef __cplusplus
}
#endif

#endif // GALVATRON_RUNTIME_API_GALVATRONRUNTIME_H
