"""The Dagster component classes behind each `defs.yaml`: they turn a description into assets, checks, jobs,
schedules and sensors. The work itself is done by the packages below.
"""

from lakehouse.components.analyses import Analysis as Analysis
from lakehouse.components.bars.component import MarketSource as MarketSource
from lakehouse.components.database_capture import DatabaseCapture as DatabaseCapture
from lakehouse.components.documents import DocumentSource as DocumentSource
from lakehouse.components.order_capture import OrderCapture as OrderCapture
from lakehouse.components.quotes.component import QuoteFeed as QuoteFeed
from lakehouse.components.reference.component import ReferenceSource as ReferenceSource
from lakehouse.components.retail import MongoSource as MongoSource
from lakehouse.components.table_report import TableReport as TableReport
