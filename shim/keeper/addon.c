/* SPDX-License-Identifier: MIT */
/* What src/server/keeper.ts loads; it says there what each function does. */
#include "keeper.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int32_t node_api_module_get_api_version_v1(void);
EXPORT int32_t node_api_module_get_api_version_v1(void)
{
	return 8;
}

EXPORT napi_value napi_register_module_v1(napi_env env, napi_value exports);
EXPORT napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
#define ADDED(name, function) add(env, exports, #name, function, NULL);
	FUNCTIONS(ADDED)
#undef ADDED
	return exports;
}
