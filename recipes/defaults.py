"""The type of a component that does not say it, by the field of the component it stands in."""

_DEFAULTS = {
    "CompositeErrorHandler": {"error_handlers": "DefaultErrorHandler"},
    "CursorPagination": {"decoder": "JsonDecoder"},
    "DatetimeBasedCursor": {
        "end_datetime": "MinMaxDatetime",
        "end_time_option": "RequestOption",
        "start_datetime": "MinMaxDatetime",
        "start_time_option": "RequestOption",
    },
    "DeclarativeSource": {"check": "CheckStream", "spec": "Spec", "streams": "DeclarativeStream"},
    "DeclarativeStream": {
        "retriever": "SimpleRetriever",
        "schema_loader": "JsonFileSchemaLoader",
    },
    "DynamicDeclarativeStream": {
        "stream_template": "DeclarativeStream",
        "components_resolver": "ConfigComponentResolver",
    },
    "HttpComponentsResolver": {
        "retriever": "SimpleRetriever",
        "components_mapping": "ComponentMappingDefinition",
    },
    "ConfigComponentsResolver": {
        "stream_config": "StreamConfig",
        "components_mapping": "ComponentMappingDefinition",
    },
    "DefaultErrorHandler": {"response_filters": "HttpResponseFilter"},
    "DefaultPaginator": {"decoder": "JsonDecoder", "page_size_option": "RequestOption"},
    "DpathExtractor": {"decoder": "JsonDecoder", "record_expander": "RecordExpander"},
    "HttpRequester": {"error_handler": "DefaultErrorHandler"},
    "ListPartitionRouter": {"request_option": "RequestOption"},
    "ParentStreamConfig": {"request_option": "RequestOption", "stream": "DeclarativeStream"},
    "RecordSelector": {"extractor": "DpathExtractor", "record_filter": "RecordFilter"},
    "SimpleRetriever": {
        "paginator": "NoPagination",
        "record_selector": "RecordSelector",
        "requester": "HttpRequester",
    },
    "SubstreamPartitionRouter": {"parent_stream_configs": "ParentStreamConfig"},
    "AddFields": {"fields": "AddedFieldDefinition"},
    "CustomPartitionRouter": {"parent_stream_configs": "ParentStreamConfig"},
    "DynamicSchemaLoader": {"retriever": "SimpleRetriever"},
    "SchemaTypeIdentifier": {"types_map": "TypesMap"},
}

_CUSTOM = {
    "CompositeErrorHandler": {"backoff_strategies": "CustomBackoffStrategy"},
    "DeclarativeStream": {
        "retriever": "CustomRetriever",
        "transformations": "CustomTransformation",
    },
    "DefaultErrorHandler": {"backoff_strategies": "CustomBackoffStrategy"},
    "DefaultPaginator": {"pagination_strategy": "CustomPaginationStrategy"},
    "HttpRequester": {
        "authenticator": "CustomAuthenticator",
        "error_handler": "CustomErrorHandler",
    },
    "RecordSelector": {"extractor": "CustomRecordExtractor"},
    "SimpleRetriever": {"partition_router": "CustomPartitionRouter"},
}


def default_type(place: str, custom: bool) -> str | None:
    """The type at a place, `HttpRequester.error_handler`; with a class of its own, a custom one."""
    outer, _, field = place.partition(".")
    return (_CUSTOM if custom else _DEFAULTS).get(outer, {}).get(field)
