/* SPDX-License-Identifier: MIT */
/*
 * The few functions of Node-API (a stable C ABI, https://nodejs.org/api/n-api.html) that the keeper uses, so that it
 * compiles on machines without Node's headers.
 */
#ifndef UIOMMUFD_NODE_API_H
#define UIOMMUFD_NODE_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_callback_info__ *napi_callback_info;
typedef int napi_status; /* 0: ok */
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
typedef void (*napi_finalize)(napi_env, void *data, void *hint);

napi_status napi_get_cb_info(napi_env, napi_callback_info, size_t *argc, napi_value *argv, napi_value *self, void **data);
napi_status napi_create_function(napi_env, const char *name, size_t length, napi_callback, void *data, napi_value *result);
napi_status napi_create_object(napi_env, napi_value *result);
napi_status napi_set_named_property(napi_env, napi_value object, const char *name, napi_value value);
napi_status napi_wrap(napi_env, napi_value object, void *native, napi_finalize, void *hint, void *reference);
napi_status napi_get_value_int32(napi_env, napi_value, int32_t *result);
napi_status napi_create_double(napi_env, double value, napi_value *result);
napi_status napi_get_value_double(napi_env, napi_value, double *result);
napi_status napi_get_value_string_utf8(napi_env, napi_value, char *into, size_t size, size_t *length);
napi_status napi_get_typedarray_info(napi_env, napi_value, int *type, size_t *length, void **data, napi_value *buffer,
				     size_t *offset);
napi_status napi_create_external_arraybuffer(napi_env, void *data, size_t length, napi_finalize, void *hint,
					     napi_value *result);
napi_status napi_adjust_external_memory(napi_env, int64_t change, int64_t *total);
napi_status napi_get_arraybuffer_info(napi_env, napi_value buffer, void **data, size_t *length);

#endif
