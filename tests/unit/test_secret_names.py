"""``tracking.secret_names``: which names mean a secret."""

import pytest

SECRET_NAMES = """
    password passwd db_password dbPassword DB_PASS PWD db-pwd passphrase passcode secret
    client_secret clientSecret token API_TOKEN accessToken credential credentials
    Authorization Proxy-Authorization secret_key private_key openai_key openaiKey
    OPENAI_KEY APIKey apikey api-key api.key AWS_SECRET_ACCESS_KEY private_key_id
    api_keys passwords password2 token_1 spring.datasource.password _authToken stripeKey
    dbpass storage-account-key
"""
PLAIN_NAMES = """
    max_tokens n_tokens tokenizer token_count token_url tokens key keys key_columns
    sort_key n_keys primary_key foreignKey partition_key group_key join_key cache_key
    dict_key public_key monkey keyboard pad_token eosToken max_token low_pass bypass
    passes password_policy secret_name credentials_path random_state C author
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_names_are_secret_by_their_ending(tracking, name):
    assert tracking.secret_names.is_secret(name)
    assert tracking.redact.mask_values({"a": [{name: "V01"}]}) == {"a": [{name: "***"}]}


@pytest.mark.parametrize("name", PLAIN_NAMES.split())
def test_other_names_are_not(tracking, name):
    assert not tracking.secret_names.is_secret(name)
    assert tracking.redact.mask_values({name: "V01"}) == {name: "V01"}
