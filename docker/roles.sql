-- Run once by the database's image, as its superuser, when the volume is new: the three roles, none of them above row
-- level security, and a database that belongs to the owner.
\set ON_ERROR_STOP on
\getenv owner_password KONSTRUCT_OWNER_PASSWORD
\getenv app_password KONSTRUCT_APP_PASSWORD
\getenv sealer_password KONSTRUCT_SEALER_PASSWORD

CREATE ROLE konstruct_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'owner_password';
CREATE ROLE konstruct_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'app_password';
CREATE ROLE konstruct_sealer LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'sealer_password';

CREATE DATABASE konstruct OWNER konstruct_owner;
REVOKE CONNECT ON DATABASE konstruct FROM PUBLIC;
GRANT CONNECT ON DATABASE konstruct TO konstruct_app, konstruct_sealer;

\connect konstruct
CREATE EXTENSION vector;
CREATE EXTENSION btree_gin;
