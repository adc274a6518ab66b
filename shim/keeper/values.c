/* SPDX-License-Identifier: MIT */
#include "keeper.h"

void *arguments(napi_env env, napi_callback_info info, napi_value *values)
{
	size_t count = MOST_ARGUMENTS;
	void *data = NULL;
	napi_get_cb_info(env, info, &count, values, NULL, &data);
	return data;
}

int32_t int_at(napi_env env, napi_value value)
{
	int32_t n = -1;
	napi_get_value_int32(env, value, &n);
	return n;
}

double double_at(napi_env env, napi_value value)
{
	double n = -1;
	napi_get_value_double(env, value, &n);
	return n;
}

void *bytes_at(napi_env env, napi_value value, size_t *length)
{
	int type;
	void *data = NULL;
	*length = 0;
	napi_get_typedarray_info(env, value, &type, length, &data, NULL, NULL);
	return data;
}

napi_value number(napi_env env, double n)
{
	napi_value value = NULL;
	napi_create_double(env, n, &value);
	return value;
}

napi_value outcome(napi_env env, double result)
{
	return number(env, result < 0 ? -errno : result);
}

void add(napi_env env, napi_value object, const char *name, napi_callback callback, void *data)
{
	napi_value function;
	if (napi_create_function(env, name, strlen(name), callback, data, &function) == 0)
		napi_set_named_property(env, object, name, function);
}
