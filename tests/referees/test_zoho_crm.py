"""Zoho's own SDK, zohocrmsdk8_0, against the sandbox, with only its addresses set.

Its environment takes them, and `update_api_domain` keeps it from asking the hosts that the token
answer names.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from zohocrmsdk.src.com.zoho.api.authenticator.oauth_token import OAuthToken
from zohocrmsdk.src.com.zoho.api.authenticator.store.file_store import FileStore
from zohocrmsdk.src.com.zoho.api.logger import Logger
from zohocrmsdk.src.com.zoho.crm.api import HeaderMap, ParameterMap, dc
from zohocrmsdk.src.com.zoho.crm.api.dc.data_center import DataCenter
from zohocrmsdk.src.com.zoho.crm.api.fields import FieldsOperations, GetFieldsParam
from zohocrmsdk.src.com.zoho.crm.api.initializer import Initializer
from zohocrmsdk.src.com.zoho.crm.api.modules import ModulesOperations
from zohocrmsdk.src.com.zoho.crm.api.notifications import (
    BodyWrapper,
    DeleteNotificationParam,
    Notification,
    NotificationsOperations,
)
from zohocrmsdk.src.com.zoho.crm.api.org import OrgOperations
from zohocrmsdk.src.com.zoho.crm.api.record import (
    GetDeletedRecordsParam,
    GetRecordsHeader,
    GetRecordsParam,
    RecordOperations,
)
from zohocrmsdk.src.com.zoho.crm.api.sdk_config import SDKConfig
from zohocrmsdk.src.com.zoho.crm.api.users import GetUsersParam, UsersOperations

from connectors.zoho_crm import DATA_CENTRES, connector
from sandbox import start
from tests._receiver import receiving

pytestmark = pytest.mark.referee


class Referee:
    """The SDK, signed in to an organisation by its refresh token, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, folder: Path) -> None:
        self.control = control
        self.account = self._account()
        described = control.get("/_control").json()["zoho_crm"]
        granted = self.order("grant", account=self.account)
        origin = str(control.base_url).rstrip("/")
        Initializer.initialize(
            DataCenter.Environment(
                f"{origin}/www.zohoapis.com",
                f"{origin}/accounts.zoho.com/oauth/v2/token",
                f"{origin}/content.zohoapis.com",
            ),
            OAuthToken(
                client_id=described["client_id"],
                client_secret=described["client_secret"],
                refresh_token=granted["refresh_token"],
                find_user=False,
            ),
            store=FileStore(str(folder / "tokens")),
            sdk_config=SDKConfig(update_api_domain=False),
            resource_path=str(folder),
            logger=Logger.get_instance(Logger.Levels.ERROR, str(folder / "log")),
        )

    def _account(self) -> str:
        """One in the first data centre."""
        while True:
            made = self.order("accounts", size=450)
            if made["answers"]["accounts_server"] == "accounts.zoho.com":
                return str(made["id"])

    def order(self, action: str, **body: Any) -> Any:
        answer = self.control.post(f"/_control/zoho_crm/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, stream: str, op: str, id_: str | None = None) -> Any:
        return self.order(f"records/{stream}?account={self.account}", op=op, id=id_, record={})

    def store(self, stream: str) -> Any:
        params = {"account": self.account, "stream": stream}
        answer = self.control.get("/_control/zoho_crm/store", params=params)
        return answer.json()["streams"][stream]


@pytest.fixture(scope="module")
def referee(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Referee]:
    with start(["zoho_crm"]) as origin, httpx.Client(base_url=origin, timeout=60) as control:
        control.post("/_control/zoho_crm/limits", json={"scale": 100})
        yield Referee(control, tmp_path_factory.mktemp("zoho"))


def params(**values: Any) -> ParameterMap:
    found = ParameterMap()
    for name, value in values.items():
        found.add(getattr(GetRecordsParam, name), value)
    return found


def test_the_connector_knows_the_data_centres_of_the_sdk() -> None:
    kinds = (getattr(dc, name) for name in dir(dc) if name.endswith("DataCenter"))
    found = [kind for kind in kinds if kind is not DataCenter]
    environments = [
        getattr(kind, name)() for kind in found for name in ("PRODUCTION", "SANDBOX", "DEVELOPER")
    ]
    assert {urlsplit(each.url).netloc for each in environments} == set(connector.hosts)
    assert {urlsplit(each.accounts_url).netloc for each in environments} == set(DATA_CENTRES)


def test_the_sdk_says_where_it_is_and_what_there_is(referee: Referee) -> None:
    (org,) = OrgOperations().get_organization().get_object().get_org()
    assert org.get_zgid() == referee.account
    found = ModulesOperations().get_modules(ParameterMap(), HeaderMap()).get_object().get_modules()
    shown = {str(each.get_id()): each.get_api_name() for each in found}
    assert shown == {id_: row["api_name"] for id_, row in referee.store("modules").items()}
    asked = ParameterMap()
    asked.add(GetFieldsParam.module, "Contacts")
    fields = FieldsOperations().get_fields(asked).get_object().get_fields()
    of = [
        row["api_name"] for row in referee.store("fields").values() if row["module"] == "Contacts"
    ]
    assert sorted(each.get_api_name() for each in fields) == sorted(of)


def test_the_sdk_reads_every_record_by_page_tokens(referee: Referee) -> None:
    names, found, token = ("First_Name", "Last_Name", "Email"), {}, None
    while True:
        more: dict[str, Any] = {"page_token": token} if token else {}
        asked = params(fields=",".join(names), converted="both", approved="both", **more)
        answer = RecordOperations("Leads").get_records(asked, HeaderMap()).get_object()
        for record in answer.get_data():
            found[str(record.get_id())] = {name: record.get_key_value(name) for name in names}
        if not answer.get_info().get_more_records():
            break
        token = answer.get_info().get_next_page_token()
    stored = referee.store("leads").items()
    assert found == {id_: {name: row[name] for name in names} for id_, row in stored}


def test_the_sdk_is_refused_what_zoho_refuses(referee: Referee) -> None:
    too_deep = params(fields="Last_Name", page=11, per_page=200)
    answer = RecordOperations("Leads").get_records(too_deep, HeaderMap()).get_object()
    assert answer.get_code().get_value() == "DISCRETE_PAGINATION_LIMIT_EXCEEDED"
    unnamed = RecordOperations("Leads").get_records(ParameterMap(), HeaderMap()).get_object()
    assert unnamed.get_code().get_value() == "REQUIRED_PARAM_MISSING"


def test_the_sdk_follows_changes_and_deletions(referee: Referee) -> None:
    since = HeaderMap()
    since.add(GetRecordsHeader.if_modified_since, datetime.now(UTC) + timedelta(hours=1))
    asked = params(fields="Last_Name", converted="both", approved="both")
    assert RecordOperations("Leads").get_records(asked, since).get_status_code() == 304
    gone = next(iter(referee.store("leads")))
    referee.change("leads", "delete", gone)
    every = ParameterMap()
    every.add(GetDeletedRecordsParam.type, "all")
    answer = RecordOperations("Leads").get_deleted_records(every, HeaderMap()).get_object()
    (tombstone,) = answer.get_data()
    assert str(tombstone.get_id()) == gone
    assert tombstone.get_type() == "recycle"


def test_the_sdk_reads_the_users(referee: Referee) -> None:
    found: dict[str, str] = {}
    for type_ in ("ActiveUsers", "DeactiveUsers"):
        asked = ParameterMap()
        asked.add(GetUsersParam.type, type_)
        answer = UsersOperations().get_users(asked, HeaderMap()).get_object()
        if answer is not None:
            found |= {str(each.get_id()): each.get_email() for each in answer.get_users()}
    assert found == {id_: row["email"] for id_, row in referee.store("users").items()}


def test_the_sdk_is_told_of_changes_until_it_ends_its_channel(referee: Referee) -> None:
    with receiving() as receiver:
        wanted = Notification()
        wanted.set_channel_id("1068002")
        wanted.set_events(["Deals.all"])
        wanted.set_channel_expiry(datetime.now(UTC) + timedelta(days=30))
        wanted.set_token("a-token")
        wanted.set_notify_url(receiver.url)
        body = BodyWrapper()
        body.set_watch([wanted])
        answer = NotificationsOperations().enable_notifications(body)
        assert answer.get_status_code() == 201
        (made,) = answer.get_object().get_watch()
        assert made.get_code().get_value() == "SUCCESS"
        (kept,) = (
            NotificationsOperations().get_notifications(ParameterMap()).get_object().get_watch()
        )
        assert kept.get_channel_expiry() < datetime.now(UTC) + timedelta(days=7, minutes=1)
        referee.change("deals", "add")
        receiver.wait(1)
        told = httpx.Response(200, content=receiver.calls[0].body).json()
        assert (told["module"], told["operation"], told["token"]) == ("Deals", "insert", "a-token")
    ended = ParameterMap()
    ended.add(DeleteNotificationParam.channel_ids, "1068002")
    assert NotificationsOperations().delete_notification(ended).get_status_code() == 200
    assert NotificationsOperations().get_notifications(ParameterMap()).get_status_code() == 204
